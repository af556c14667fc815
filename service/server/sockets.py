"""Listening sockets."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Final

from models.errors import BadInput

BACKLOG: Final = 2048
"""Connections that may wait to be accepted."""

UNREAD_MS: Final = 30_000
"""How long bytes of an answer may wait for a client to read them."""


@contextlib.contextmanager
def listening(host: str, port: int, *, shared: bool = False) -> Iterator[socket.socket]:
    """Open a listening socket. Connections wait in its backlog until the service is ready.

    Args:
        host: address or name of this machine.
        port: 0 takes a free one.
        shared: several processes may have one each (SO_REUSEPORT); the kernel spreads connections.

    Raises:
        BadInput: the address cannot be listened on.
    """
    with _bound(host, port, shared=shared) as sock:
        try:
            # Accepted connections inherit these: the kernel breaks one whose peer is gone or does not read.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)
            sock.listen(BACKLOG)
        except OSError as e:
            raise _unavailable(host, port, e) from e
        yield sock


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[None]:
    """Keep the port for our workers while one of them restarts; accepts no connections.

    Raises:
        BadInput: the address cannot be bound.
    """
    with _bound(host, port, shared=True):
        yield


@contextlib.contextmanager
def _bound(host: str, port: int, *, shared: bool) -> Iterator[socket.socket]:
    with contextlib.ExitStack() as stack:
        try:
            family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            sock = stack.enter_context(socket.socket(family, kind, proto))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
        except OSError as e:
            raise _unavailable(host, port, e) from e
        yield sock


def _unavailable(host: str, port: int, error: OSError) -> BadInput:
    return BadInput(
        f"Cannot listen on {host}:{port}: {error.strerror or error}. "
        "Is a service running already? Choose another port with --port."
    )
