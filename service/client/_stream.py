"""POST /label as NDJSON: events out and labels in on one connection at the same time.

The service answers while the body arrives, and stops reading while its answers are not taken. httpx sends the
whole body before it reads, so both sides would wait for each other. h11 because it is there with the server:
aiohttp 3.14 streams both ways too (1.4 times as fast on loopback) but adds eight packages to the image.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import h11
import msgspec

from service.client._errors import StreamCut, Unreachable, error_of, problem_of
from service.client._methods import Event, encode_event
from service.wire import Label, Rejected, StreamSummary

Answer = Label | Rejected | StreamSummary
"""A line of the answer. An event has one, a late event two: rejection and label. The last is the summary."""

MAX_LINES: Final = 500
"""Lines sent together. Fewer are sent when the source of events makes us wait."""

READ_AHEAD: Final = 2 * MAX_LINES
"""Events taken from a blocking source before they can be sent."""

CHUNK_BYTES: Final = 64 * 1024

_label: Final = msgspec.json.Decoder(Label)
_rejected: Final = msgspec.json.Decoder(Rejected)
_summary: Final = msgspec.json.Decoder(StreamSummary)


@dataclass(frozen=True, slots=True)
class Stream:
    """Address and options of one stream."""

    url: str
    """Of the service; its path precedes `path`."""
    path: str
    headers: Mapping[str, str]
    timeout_s: float
    """To connect, and for an answer while an event is unanswered."""
    tls: ssl.SSLContext | None


async def exchange(
    stream: Stream, events: AsyncIterable[Event] | Iterable[Event]
) -> AsyncGenerator[list[Answer], None]:
    """Send events and yield answers as they arrive, some at a time.

    Answers are read when the caller asks for them, and events are taken when they can be sent: memory is
    bounded whichever side is slow.

    Raises:
        Unreachable: no connection.
        ServiceError: refused before the first answer.
        StreamCut: the stream ended before the summary.
    """
    reader, writer = await _connect(stream)
    try:
        connection = _Connection(stream, reader, writer)
        sender = asyncio.create_task(connection.send_all(events))
        try:
            async for answers in connection.receive():
                yield answers
        except (StreamCut, Unreachable):
            if sender.done() and not sender.cancelled() and (error := sender.exception()) is not None:
                raise error from None  # the source of events failed, which ended the stream
            raise
        finally:
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await sender
    finally:
        writer.transport.abort()


class _Connection:
    """One request whose body is sent while its response is received."""

    def __init__(self, stream: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._stream = stream
        self._reader = reader
        self._writer = writer
        self._protocol = h11.Connection(h11.CLIENT)
        self._lines: list[bytes] = []
        self._sent = 0
        self._answered = 0

    async def send_all(self, events: AsyncIterable[Event] | Iterable[Event]) -> None:
        url = urlsplit(self._stream.url)
        host = url.netloc.rpartition("@")[2]
        headers = {"host": host, "transfer-encoding": "chunked", **self._stream.headers}
        target = url.path.rstrip("/") + self._stream.path
        try:
            self._write(h11.Request(method="POST", target=target, headers=list(headers.items())))
            async for event in events if isinstance(events, AsyncIterable) else _iterate(events):
                if not self._lines:
                    asyncio.get_running_loop().call_soon(self._flush)
                self._lines.append(encode_event(event))
                if len(self._lines) >= MAX_LINES:
                    self._flush()
                    await self._writer.drain()
                    await asyncio.sleep(0)  # a source that never waits must leave time for reading
            self._flush()
            self._write(h11.EndOfMessage())
            await self._writer.drain()
        except (OSError, h11.LocalProtocolError):
            pass  # the service has ended the stream; its answer has the reason
        except BaseException:
            self._writer.transport.abort()
            raise

    def _flush(self) -> None:
        if self._lines and self._protocol.our_state is h11.SEND_BODY:
            self._sent += len(self._lines)
            self._write(h11.Data(b"\n".join(self._lines) + b"\n"))
            self._lines.clear()

    def _write(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        self._writer.write(self._protocol.send(event) or b"")

    async def receive(self) -> AsyncIterator[list[Answer]]:
        response: h11.Response | None = None
        rest, refusal = b"", b""
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data) and response is not None and response.status_code != 200:
                refusal += event.data
            elif isinstance(event, h11.Data):
                *lines, rest = (rest + event.data).split(b"\n")
                if lines:
                    answers = [self._decode(line) for line in lines]
                    self._answered += len(answers)
                    yield answers
                    if isinstance(answers[-1], StreamSummary):
                        return
            elif isinstance(event, h11.EndOfMessage) and response is not None:
                if response.status_code == 200:
                    raise self._cut("The stream ended without its summary.")
                headers = {name.decode(): value.decode("latin-1") for name, value in response.headers}
                raise error_of(response.status_code, headers, refusal)

    async def _next_event(self) -> object:
        try:
            while (event := self._protocol.next_event()) is h11.NEED_DATA:
                sent = self._sent
                try:
                    async with asyncio.timeout(self._stream.timeout_s):
                        data = await self._reader.read(CHUNK_BYTES)
                except TimeoutError:
                    if sent <= self._answered:
                        continue  # nothing is unanswered: the source of events is slow
                    seconds = f"{self._stream.timeout_s:g} s"
                    raise self._cut(
                        f"The service at {self._stream.url} has not answered for {seconds}."
                    ) from None
                self._protocol.receive_data(data)
        except (OSError, h11.RemoteProtocolError) as e:
            raise self._cut(f"The connection to {self._stream.url} broke: {e}.") from e
        return event

    def _decode(self, line: bytes) -> Answer:
        for decoder in (_label, _rejected):
            with contextlib.suppress(msgspec.ValidationError):
                return decoder.decode(line)
        try:
            summary = _summary.decode(line)
        except msgspec.ValidationError:
            problem = problem_of(500, line)
            raise StreamCut(problem.detail, answered=self._answered, problem=problem) from None
        if summary.status != "ok":
            raise self._cut("The service is shutting down.")
        return summary

    def _cut(self, detail: str) -> StreamCut:
        return StreamCut(detail, answered=self._answered)


async def _connect(stream: Stream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = urlsplit(stream.url)
    secure = url.scheme == "https"
    tls = (stream.tls or ssl.create_default_context()) if secure else None
    try:
        async with asyncio.timeout(stream.timeout_s):
            return await asyncio.open_connection(url.hostname, url.port or (443 if secure else 80), ssl=tls)
    except (OSError, TimeoutError) as e:
        reason = str(e) or "it does not answer in time"
        raise Unreachable(f"No service answers at {stream.url}: {reason}.", sent=False) from e


async def _iterate(events: Iterable[Event]) -> AsyncIterator[Event]:
    for event in events:
        yield event


async def from_thread(events: Iterable[Event]) -> AsyncIterator[Event]:
    """Yield events of a source that may block. A thread reads it, at most `READ_AHEAD` events ahead."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    queue: deque[Event] = deque()
    permits = threading.Semaphore(READ_AHEAD)
    result: list[BaseException | None] = []  # one entry at the end: the error of the source, or None
    abandoned = False

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(ready.set)

    def feed() -> None:
        error: BaseException | None = None
        try:
            for event in events:
                permits.acquire()
                if abandoned:
                    break
                queue.append(event)
                if len(queue) == 1:
                    wake()
        except BaseException as e:
            error = e
        result.append(error)
        wake()

    threading.Thread(target=feed, name="reelrank-events", daemon=True).start()
    try:
        while True:
            while queue:
                yield queue.popleft()
                permits.release()
            if result and not queue:
                break
            ready.clear()
            if not queue and not result:
                await ready.wait()
        if result[0] is not None:
            raise result[0]
    finally:
        abandoned = True
        permits.release()
