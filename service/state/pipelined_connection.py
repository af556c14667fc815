"""One connection to a Redis server for all calls of a process: commands are sent as they come and answered in
that order, so no call waits for a free connection.

redis-py takes a connection out of a pool for each command, waits on it alone and puts it back: measured here,
that is 0.15 ms of the caller's time, twice what the server and the network take. Its parts are used where
they cost nothing: URLs, TLS, the protocol's parser, the errors.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Final, cast

import hiredis
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection, parse_url
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import TimeoutError as NotInTime

Command = Sequence[bytes | str | int]

_ERRORS: Final[dict[str, type[Exception]]] = {
    "CROSSSLOT": ClusterCrossSlotError,
    "LOADING": BusyLoadingError,
    "NOAUTH": AuthenticationError,
    "NOPERM": NoPermissionError,
    "NOSCRIPT": NoScriptError,
    "OOM": OutOfMemoryError,
    "READONLY": ReadOnlyError,
    "WRONGPASS": AuthenticationError,
}
"""By the first word of an error reply; what is not here is a `ResponseError`."""

_MORE: Final = object()
"""The parser returns it when it needs more bytes."""


class PipelinedConnection:
    """A shared connection that is opened at first use, and again when it broke.

    A command is sent a second time, on a new connection, when the one it was sent on breaks or goes silent:
    what is sent here must bear that.

    Args:
        url: see `RedisStore.open`.
        timeout_s: to connect, and until an answer; with one that takes longer the connection counts as dead.

    Raises:
        ValueError: this is no such URL.
    """

    def __init__(self, url: str, timeout_s: float) -> None:
        options: dict[str, Any] = dict(parse_url(url))
        kind = options.pop("connection_class", None)
        self._path: str | None = options["path"] if kind is UnixDomainSocketConnection else None
        self._address = options.get("host", "localhost"), options.get("port", 6379)
        self._tls = None
        if kind is SSLConnection:
            tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
            self._tls = SSLConnection(**tls).ssl_context
        self._greeting: list[Command] = []
        if password := options.get("password"):
            user = options.get("username")
            self._greeting.append(("AUTH", user, password) if user else ("AUTH", password))
        if database := options.get("db"):
            self._greeting.append(("SELECT", database))
        self._timeout_s = timeout_s
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[_Connection] | None = None
        self._closed = False

    async def execute_command(self, *command: bytes | str | int) -> Any:
        """Send one command and return its reply.

        Raises:
            RedisError: the server cannot be reached, does not answer in time, or answers with an error.
        """
        answer = (await self.send_many((command,)))[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def send_many(self, commands: Sequence[Command]) -> list[Any]:
        """Send several commands as one and return their replies; an error reply is an exception in the list.

        Raises:
            RedisError: the server cannot be reached, or does not answer in time.
        """
        try:
            return await (await self._ready()).ask(commands)
        except (NotConnected, NotInTime) as e:
            if isinstance(e, BusyLoadingError | AuthenticationError):  # answers, of kinds of that class
                raise
        return await (await self._ready()).ask(commands)

    async def ask_primaries(self, command: Command) -> list[Any]:
        """Return the reply of the one server there is; an error reply is an exception in the list."""
        return await self.send_many((command,))

    async def aclose(self) -> None:
        """Close the connection; pending calls fail."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.end(NotConnected("closed by us"))

    async def _ready(self) -> _Connection:
        if self._closed:
            raise NotConnected("it was closed")
        if self._connection is not None and self._connection.open:
            return self._connection
        if self._connecting is None:  # one attempt for all who wait
            self._connecting = asyncio.create_task(self._connect())
            self._connecting.add_done_callback(self._connected)
        return await asyncio.shield(self._connecting)

    def _connected(self, attempt: asyncio.Task[_Connection]) -> None:
        self._connecting = None
        if not attempt.cancelled() and attempt.exception() is None:
            self._connection = attempt.result()

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        connection = _Connection(loop, self._timeout_s)
        try:
            async with asyncio.timeout(self._timeout_s):
                if self._path is not None:
                    await loop.create_unix_connection(lambda: connection, self._path)
                else:
                    tls = self._tls.get() if self._tls is not None else None
                    await loop.create_connection(lambda: connection, *self._address, ssl=tls)
                for command, answer in zip(self._greeting, await connection.ask(self._greeting), strict=True):
                    if command[0] == "AUTH" and type(answer) is ResponseError:
                        raise AuthenticationError(str(answer))
                    if isinstance(answer, Exception):
                        raise answer
        except BaseException as e:
            connection.end(NotConnected("never opened"))
            if isinstance(e, TimeoutError):
                raise NotInTime(f"no connection within {self._timeout_s:g} s") from None
            if isinstance(e, OSError):
                raise NotConnected(str(e)) from e
            raise
        return connection


class _Connection(asyncio.Protocol):
    """Replies come in the order of the commands: each is that of the oldest pending batch."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float) -> None:
        self._loop = loop
        self._timeout_s = timeout_s
        self._parser = hiredis.Reader(notEnoughData=_MORE, replyError=_error_of)
        self._waiting: deque[_Batch] = deque()
        self._transport: asyncio.WriteTransport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self.open = True

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        if not self.open or self._transport is None:
            raise NotConnected("the connection is closed")
        batch = _Batch(self._loop, len(commands))
        if not commands:
            return batch.answers
        self._waiting.append(batch)
        self._transport.write(b"".join(map(_packed, commands)))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)
        # A caller that is cancelled leaves its batch in the queue: the replies still come, and are dropped.
        await batch.done
        return batch.answers

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is not one by name
        # So that a command leaves at once: uvloop keeps small writes until all else of this turn is done.
        self._transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        parser, waiting = self._parser, self._waiting
        parser.feed(data)
        try:
            while (answer := parser.gets()) is not _MORE:
                batch = waiting[0]
                batch.answers.append(answer)
                if len(batch.answers) == batch.size:
                    waiting.popleft()
                    if not batch.done.done():
                        batch.done.set_result(None)
        except (hiredis.ProtocolError, IndexError) as e:
            self.end(NotConnected(f"what answers is no Redis server: {e}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.end(NotConnected(str(exc) if exc else "the server has closed the connection"))

    def end(self, why: Exception) -> None:
        """Close it; pending batches fail with `why`. Does nothing the second time."""
        self.open = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            batch = self._waiting.popleft()
            if not batch.done.done():
                batch.done.set_exception(why)

    def _look(self) -> None:
        """One timer a connection: whether the oldest command has waited too long."""
        self._watch = None
        if not self._waiting:
            return
        left_s = self._waiting[0].sent_s + self._timeout_s - self._loop.time()
        if left_s <= 0:
            self.end(NotInTime(f"no answer within {self._timeout_s:g} s"))
        else:
            self._watch = self._loop.call_later(left_s, self._look)


class _Batch:
    """Commands that were sent as one, and their answers so far."""

    __slots__ = ("answers", "done", "sent_s", "size")

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self.size = size
        self.answers: list[Any] = []
        self.done: asyncio.Future[None] = loop.create_future()
        self.sent_s = loop.time()


def _packed(command: Command) -> bytes:
    return cast(bytes, hiredis.pack_command(tuple(command)))  # type: ignore[arg-type]  # its stub asks for one part


def _error_of(text: str) -> Exception:
    word, _, rest = text.partition(" ")
    kind = _ERRORS.get(word)
    return kind(rest) if kind is not None else ResponseError(text)
