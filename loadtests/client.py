"""One HTTP/1.1 client that costs little: whole requests as bytes out; status, headers and body in."""

from __future__ import annotations

import asyncio
import math
import re
import socket
from collections import deque
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, Self, cast

import httptools

from loadtests.command import LoadtestError

NO_REPLY: Final = 0
"""Status of a request without a reply."""
BLOCKING_TIMEOUT_S: Final = 10.0
CALM_HEADER: Final = b"\r\nx-deadline-ms: 10000\r\n\r\n"

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of one request; times by `perf_counter`."""

    status: int  # `NO_REPLY` without a reply
    error: str  # then `refused` (no listener), `broken` (connection ended) or `timed out`; else empty
    sent_s: float
    received_s: float  # the last byte, or when it was clear that none would come
    headers: dict[bytes, bytes]  # names in lower case
    body: bytes

    @property
    def service_s(self) -> float:
        """The time that the service has measured, by `Server-Timing`; NaN if it does not say."""
        found = re.search(rb"\btotal;dur=([\d.]+)", self.headers.get(b"server-timing", b""))
        return float(found[1]) / 1e3 if found else math.nan


def post(path: str, body: bytes, content_type: str = "application/json", headers: str = "") -> bytes:
    """Return the bytes of one POST; `headers` are whole lines, each with its line end."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: loadtest\r\ncontent-type: {content_type}\r\n{headers}"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def with_calm_deadline(request: bytes) -> bytes:
    """Return a request with a deadline that a busy host keeps, for requests that are timed one by one."""
    return request.replace(b"\r\n\r\n", CALM_HEADER, 1)


class _ReplyReader:
    """One reply, fed piece by piece (httptools callbacks)."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._parts: list[bytes] = []
        self.headers: dict[bytes, bytes] = {}
        self.complete = False
        self.keep_alive = False

    def feed(self, data: bytes) -> bool:
        self._parser.feed_data(data)
        return self.complete

    def reply(self, sent_s: float) -> Reply:
        status = self._parser.get_status_code()
        return Reply(status, "", sent_s, perf_counter(), self.headers, b"".join(self._parts))

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self.complete, self.keep_alive = True, self._parser.should_keep_alive()


class BlockingConnection:
    """A blocking socket with one request at a time: of all clients it adds the least to a latency.

    Args:
        address: host and port.
    """

    def __init__(self, address: Address) -> None:
        self._socket = socket.create_connection(address, timeout=BLOCKING_TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, request: bytes) -> Reply:
        """Send one request and return its reply.

        Raises:
            LoadtestError: the reply is not 200, or the connection ended in it.
        """
        reader, sent_s = _ReplyReader(), perf_counter()
        self._socket.sendall(request)
        while not reader.complete:
            data = self._socket.recv(1 << 18)
            if not data:
                raise LoadtestError("the service closed the connection within a reply")
            reader.feed(data)
        reply = reader.reply(sent_s)
        if reply.status != 200:
            raise LoadtestError(f"the service replied {reply.status}: {reply.body[:300]!r}")
        return reply


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Reply] | None = None
        self._reader, self._sent_s = _ReplyReader(), 0.0

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes) -> asyncio.Future[Reply]:
        assert self._transport is not None
        self._waiter = asyncio.get_running_loop().create_future()
        self._reader, self._sent_s = _ReplyReader(), perf_counter()
        self._transport.write(request)
        return self._waiter

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._reader.feed(data):
            self._resolve(self._reader.reply(self._sent_s))
            if not self._reader.keep_alive:
                self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._resolve(no_reply("broken", self._sent_s))

    def _resolve(self, reply: Reply) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(reply)


def no_reply(error: str, sent_s: float) -> Reply:
    """Return the `Reply` of a request that got none."""
    return Reply(NO_REPLY, error, sent_s, perf_counter(), {}, b"")


class Client:
    """Kept connections to one server, opened when needed. An async context manager.

    Args:
        address: host and port.
        connections: requests in flight at most; further ones wait for a connection, first come first served.
        timeout_s: for one reply.
    """

    def __init__(self, address: Address, connections: int, timeout_s: float | None = None) -> None:
        self._address = address
        self._free = asyncio.Semaphore(connections)
        self._connections = connections
        self._timeout_s = timeout_s
        self._idle: deque[_Connection] = deque()
        self._all: set[_Connection] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._all:
            connection.close()
        await asyncio.sleep(0)

    async def open_all(self) -> None:
        """Open all connections, so that no request waits for that.

        Raises:
            OSError: no listener.
        """
        self._idle.extend(await asyncio.gather(*(self._connect() for _ in range(self._connections))))

    async def send(self, request: bytes) -> Reply:
        """Send one request; whatever the server does is a `Reply`."""
        async with self._free:
            start_s = perf_counter()
            try:
                connection = await self._open_connection()
            except OSError:
                return no_reply("refused", start_s)
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await connection.send(request)
            except TimeoutError:
                connection.close()
                return no_reply("timed out", start_s)
            finally:
                if connection.is_open:
                    self._idle.append(connection)
                else:
                    self._all.discard(connection)

    async def _open_connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.popleft()
            if connection.is_open:
                return connection
            self._all.discard(connection)
        return await self._connect()

    async def _connect(self) -> _Connection:
        protocol: Any
        _, protocol = await asyncio.get_running_loop().create_connection(_Connection, *self._address)
        self._all.add(protocol)
        return cast(_Connection, protocol)
