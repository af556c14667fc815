"""Listening sockets."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Final

from models.errors import BadInput

BACKLOG: Final = 2048
"""Connections that may wait to be taken."""

UNREAD_MS: Final = 30_000
"""How long bytes of an answer may wait for a client to take them."""


@contextlib.contextmanager
def listening(host: str, port: int, *, shared: bool = False) -> Iterator[socket.socket]:
    """A listening socket. Connections that come before the service is ready wait in its backlog.

    Args:
        host: an address or a name of this machine.
        port: 0 takes a free one.
        shared: several processes may have one each (SO_REUSEPORT); the kernel spreads connections.

    Raises:
        BadInput: the address cannot be had.
    """
    with bound(host, port, shared=shared) as sock:
        try:
            _keep_no_dead_peers(sock)
            sock.listen(BACKLOG)
        except OSError as e:
            raise _taken(host, port, e) from e
        yield sock


@contextlib.contextmanager
def reserved(host: str, port: int) -> Iterator[None]:
    """Keep the port for our workers while one of them is being restarted. Takes no connections itself."""
    with bound(host, port, shared=True):
        yield


@contextlib.contextmanager
def bound(host: str, port: int, *, shared: bool) -> Iterator[socket.socket]:
    """A bound socket, see `listening`."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, proto)
    except OSError as e:
        raise _taken(host, port, e) from e
    with sock:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(address)
        except OSError as e:
            raise _taken(host, port, e) from e
        yield sock


def _keep_no_dead_peers(sock: socket.socket) -> None:
    """Connections inherit it: one whose other end is gone, or does not read what it has asked for, is broken
    by the kernel, and what was held for it is let go."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_MS)


def _taken(host: str, port: int, error: OSError) -> BadInput:
    return BadInput(
        f"{host}:{port} cannot be listened on: {error.strerror or error}. "
        "Is a service running already? Choose another with --port."
    )
