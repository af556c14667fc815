"""POST /label as NDJSON: events out and labels in on one connection at the same time.

HTTP clients send a whole body before they read an answer; the service answers while the body is arriving and
stops reading when its answers are not taken, so the two would wait for each other. Hence a connection of
its own, with h11 for the protocol.
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

from service.client._calls import Event, line
from service.client._errors import StreamCut, Unreachable, error_of, problem_of
from service.wire import Label, Rejected, StreamSummary

Answer = Label | Rejected | StreamSummary
"""A line of the answer. An event has one, a late event two: rejection and label. The last is the summary."""

LINES: Final = 500
"""Lines that go out together, if so many are there; what is there goes out when there is nothing more."""

AHEAD: Final = 2 * LINES
"""Events that are taken from a blocking source before they can be sent."""

CHUNK: Final = 64 * 1024

_label: Final = msgspec.json.Decoder(Label)
_rejected: Final = msgspec.json.Decoder(Rejected)
_summary: Final = msgspec.json.Decoder(StreamSummary)


@dataclass(frozen=True, slots=True)
class Stream:
    """Where to stream to, and how."""

    url: str
    """Of the service; its path is put before `path`."""
    path: str
    headers: Mapping[str, str]
    timeout_s: float
    """To connect, and for an answer while there is anything to be answered."""
    tls: ssl.SSLContext | None


async def exchange(
    stream: Stream, events: AsyncIterable[Event] | Iterable[Event]
) -> AsyncGenerator[list[Answer], None]:
    """Answers as they arrive, some at a time. Nothing is read that is not asked for, and
    nothing is taken from `events` that cannot be sent: memory is bounded whichever side is slow.

    Raises:
        Unreachable: no connection.
        ServiceError: refused before the first answer.
        StreamCut: it ended before the summary.
    """
    reader, writer = await _connect(stream)
    protocol = h11.Connection(h11.CLIENT)
    sending = _Sending(protocol, writer)
    try:
        writer.write(_checked(protocol.send(_request(stream))))
        pump = asyncio.create_task(sending.pump(events))
        try:
            async for answers in _answers(stream, protocol, reader, sending):
                yield answers
        except (StreamCut, Unreachable):
            if pump.done() and not pump.cancelled() and (fault := pump.exception()) is not None:
                raise fault from None  # the source of events failed, and that is why it ended
            raise
        finally:
            pump.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await pump
    finally:
        writer.transport.abort()


class _Sending:
    """The way out."""

    def __init__(self, protocol: h11.Connection, writer: asyncio.StreamWriter) -> None:
        self._protocol = protocol
        self._writer = writer
        self._lines: list[bytes] = []
        self.sent = 0

    async def pump(self, events: AsyncIterable[Event] | Iterable[Event]) -> None:
        """Send every event. When the source makes us wait, what is there goes out meanwhile."""
        try:
            async for event in events if isinstance(events, AsyncIterable) else _plain(events):
                if not self._lines:
                    asyncio.get_running_loop().call_soon(self._flush)
                self._lines.append(line(event))
                if len(self._lines) >= LINES:
                    self._flush()
                    await self._writer.drain()
                    await asyncio.sleep(0)  # a source that never waits must leave time for reading
            self._flush()
            self._writer.write(_checked(self._protocol.send(h11.EndOfMessage())))
            await self._writer.drain()
        except (OSError, h11.LocalProtocolError):
            pass  # the service has ended it; its answer says why
        except BaseException:
            self._writer.transport.abort()
            raise

    def _flush(self) -> None:
        if not self._lines or self._protocol.our_state is not h11.SEND_BODY:
            return
        body = b"\n".join(self._lines) + b"\n"
        self.sent += len(self._lines)
        self._lines.clear()
        self._writer.write(_checked(self._protocol.send(h11.Data(body))))


async def _answers(
    stream: Stream, protocol: h11.Connection, reader: asyncio.StreamReader, sending: _Sending
) -> AsyncIterator[list[Answer]]:
    answered, rest, refused = 0, b"", bytearray()
    response: h11.Response | None = None
    while True:
        event = await _next(stream, protocol, reader, sending, answered)
        if isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data) and response is not None:
            if response.status_code != 200:
                refused += event.data
                continue
            *lines, rest = (rest + event.data).split(b"\n")
            if not lines:
                continue
            answers = [_answer(text, answered) for text in lines]
            answered += len(answers)
            yield answers
            if isinstance(answers[-1], StreamSummary):
                return
        elif isinstance(event, h11.EndOfMessage) and response is not None:
            if response.status_code == 200:
                raise StreamCut("The stream ended without its summary.", answered=answered)
            headers = {name.decode(): value.decode("latin-1") for name, value in response.headers}
            raise error_of(response.status_code, headers, bytes(refused))


async def _next(
    stream: Stream,
    protocol: h11.Connection,
    reader: asyncio.StreamReader,
    sending: _Sending,
    answered: int,
) -> object:
    """The protocol's next event."""
    try:
        while (event := protocol.next_event()) is h11.NEED_DATA:
            sent = sending.sent
            try:
                async with asyncio.timeout(stream.timeout_s):
                    data = await reader.read(CHUNK)
            except TimeoutError:
                if sent > answered:
                    raise StreamCut(
                        f"The service at {stream.url} has not answered for {stream.timeout_s:g} s.",
                        answered=answered,
                    ) from None
                continue  # nothing was asked: the source of events is what is slow
            protocol.receive_data(data)
    except (OSError, h11.RemoteProtocolError) as e:
        raise StreamCut(f"The connection to {stream.url} broke: {e}.", answered=answered) from e
    return event


def _answer(text: bytes, answered: int) -> Answer:
    try:
        return _label.decode(text)
    except msgspec.ValidationError:
        pass
    try:
        return _rejected.decode(text)
    except msgspec.ValidationError:
        pass
    try:
        summary = _summary.decode(text)
    except msgspec.ValidationError:
        problem = problem_of(500, text)
        raise StreamCut(problem.detail, answered=answered, problem=problem) from None
    if summary.status != "ok":
        raise StreamCut("The service is shutting down.", answered=answered)
    return summary


async def _connect(stream: Stream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    where = urlsplit(stream.url)
    secure = where.scheme == "https"
    try:
        async with asyncio.timeout(stream.timeout_s):
            return await asyncio.open_connection(
                where.hostname,
                where.port or (443 if secure else 80),
                ssl=(stream.tls or ssl.create_default_context()) if secure else None,
            )
    except (OSError, TimeoutError) as e:
        said = str(e) or "it does not answer in time"
        raise Unreachable(f"No service answers at {stream.url}: {said}.", sent=False) from e


def _request(stream: Stream) -> h11.Request:
    where = urlsplit(stream.url)
    headers = {"host": where.netloc.rpartition("@")[2], "transfer-encoding": "chunked", **stream.headers}
    return h11.Request(
        method="POST", target=where.path.rstrip("/") + stream.path, headers=list(headers.items())
    )


def _checked(data: bytes | None) -> bytes:
    assert data is not None, "h11 gives nothing only for ConnectionClosed, which is never sent"
    return data


async def _plain(events: Iterable[Event]) -> AsyncIterator[Event]:
    for event in events:
        yield event


async def from_thread(events: Iterable[Event]) -> AsyncIterator[Event]:
    """Events of a source that may block: it is read in a thread of its own, at most `AHEAD` events ahead."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    waiting: deque[Event] = deque()
    places = threading.Semaphore(AHEAD)
    ended: list[BaseException | None] = []  # one entry at the end: what the source failed with, if it did
    abandoned = False

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody wants to know
            loop.call_soon_threadsafe(ready.set)

    def feed() -> None:
        fault: BaseException | None = None
        try:
            for event in events:
                places.acquire()
                if abandoned:
                    break
                waiting.append(event)
                if len(waiting) == 1:
                    tell()
        except BaseException as e:
            fault = e
        ended.append(fault)
        tell()

    threading.Thread(target=feed, name="reelrank-events", daemon=True).start()
    try:
        while True:
            while waiting:
                yield waiting.popleft()
                places.release()
            if ended and not waiting:
                break
            ready.clear()
            if not waiting and not ended:
                await ready.wait()
        if ended[0] is not None:
            raise ended[0]
    finally:
        abandoned = True
        places.release()
