"""A TCP proxy with faults on request: between the service and its store in a drill."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Awaitable, Callable
from typing import Final, Self

CHUNK: Final = 64 * 1024
START_S: Final = 10.0
SETTLE_S: Final = 0.01
"""A connection that was being accepted when listening stopped shows up within this, and is broken too."""

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class FaultProxy:
    """Forwards connections from a free port of loopback to a server. A context manager.

    Args:
        target: `("127.0.0.1", port)`, or the path of a Unix socket.
        tls: what clients are met with; the target is reached in plain text. Without it neither has TLS.

    Attributes:
        port: where it listens.
    """

    def __init__(self, target: tuple[str, int] | str, *, tls: ssl.SSLContext | None = None) -> None:
        self._target = target
        self._tls = tls
        self._delay_s = 0.0
        self._silent = False
        self._bytes_per_s: float | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_S)
        self._loop.close()

    def heal(self) -> None:
        """End all faults; listen again if it refused."""
        self._delay_s, self._silent, self._bytes_per_s = 0.0, False, None
        self._run(self._listen)

    def delay(self, seconds: float) -> None:
        """Deliver every chunk, either way, this much later."""
        self._delay_s = seconds

    def half_open(self) -> None:
        """Keep and accept connections, and drop what is sent, as a firewall may.

        A connection that has lost bytes stays silent after `heal`: TCP never continues after a gap, where
        the reply to one command would be taken for that to another.
        """
        self._silent = True

    def trickle(self, bytes_per_s: float) -> None:
        """Deliver the server's replies byte by byte at a rate."""
        self._bytes_per_s = bytes_per_s

    def cut(self) -> None:
        """Break every open connection; accept new ones."""
        self._run(self._break)

    def refuse(self) -> None:
        """Break every open connection and accept no new ones."""
        self._run(self._close)

    def _run(self, step: Callable[[], Awaitable[None]]) -> None:
        async def run() -> None:
            await step()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(START_S)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(SETTLE_S)
        await self._break()

    async def _break(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _end(self) -> None:
        await self._close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(SETTLE_S if self._tls else 0)  # layers below TLS end one after the other

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        upstream: asyncio.StreamWriter | None = None
        try:
            replies, upstream = await self._connect()
            self._writers.add(upstream)
            torn = asyncio.Event()
            await asyncio.gather(
                self._pump(reader, upstream, torn), self._pump(replies, writer, torn, replies=True)
            )
        except (OSError, asyncio.CancelledError):
            pass  # a side has ended the connection, as faults do
        finally:
            for end in filter(None, (writer, upstream)):
                self._writers.discard(end)
                end.transport.abort()

    async def _connect(self) -> Connection:
        if isinstance(self._target, str):
            return await asyncio.open_unix_connection(self._target)
        return await asyncio.open_connection(*self._target)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        torn: asyncio.Event,
        *,
        replies: bool = False,
    ) -> None:
        while chunk := await reader.read(CHUNK):
            if self._silent or torn.is_set():
                torn.set()
                continue
            if self._delay_s:
                await asyncio.sleep(self._delay_s)
            if replies and (rate := self._bytes_per_s):
                for byte in chunk:
                    writer.write(bytes((byte,)))
                    await writer.drain()
                    await asyncio.sleep(1 / rate)
                continue
            writer.write(chunk)
            await writer.drain()
        with contextlib.suppress(OSError, NotImplementedError):  # TLS has no half-closed connection
            writer.write_eof()
