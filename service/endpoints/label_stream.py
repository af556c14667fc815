"""POST /label as a stream: lines in, lines out, bounded memory on both sides."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from time import monotonic
from typing import Final

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from models.errors import BodyTooSlow, ReelrankError
from service.http.errors import document_of, note, response_of
from service.http.request import NDJSON
from service.pipeline.label import STEP
from service.pipeline.label_query import MAX_LINE_BYTES, DecodedEvent, LabelQuery, LabelTarget, decode_line
from service.pipeline.label_reply import StreamTotals
from service.services import Services
from service.telemetry.trace import current_trace

DRAIN_POLL_S: Final = 0.2
"""How soon a stream that waits for its client notices that the service is shutting down."""

BLANK_TIMEOUTS: Final = 10
"""A stream without a whole event for so many body time-outs ends, whatever blank or unfinished lines came."""

_encode: Final = msgspec.json.Encoder().encode


class LineReader:
    """The lines of a body that is still arriving. Holds one chunk of it and at most one unfinished line.

    Args:
        chunks: the body.
    """

    def __init__(self, chunks: AsyncGenerator[bytes, None]) -> None:
        self._chunks = chunks
        self._ready: deque[bytes | None] = deque()  # `None` stands for a line that was too long to hold
        self._rest = b""
        self._skipping = False
        self._ended = False
        self.count = 0
        """Lines returned so far; blank ones do not count."""
        self.received_at = monotonic()
        """When the last bytes came, be they a blank line."""

    async def batch(self, limit: int) -> list[DecodedEvent]:
        """Return what has arrived, at least one line and at most `limit`; nothing at the end of the body."""
        while not self._ready and not self._ended:
            await self._receive()
        batch: list[DecodedEvent] = []
        while self._ready and len(batch) < limit:
            batch.append(decode_line(self._ready.popleft(), self.count + len(batch)))
        self.count += len(batch)
        return batch

    async def _receive(self) -> None:
        try:
            chunk = await anext(self._chunks)
            self.received_at = monotonic()
        except StopAsyncIteration:
            self._ended = True
            chunk = b"\n"  # the last line need not end with one
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if self._skipping:  # the end of a line that has been rejected already
                self._skipping = False
            elif line.strip():
                self._ready.append(line)
        if len(self._rest) > MAX_LINE_BYTES:
            if not self._skipping:
                self._ready.append(None)
            self._skipping, self._rest = True, b""


class NdjsonLabels(Response):
    """The response to an NDJSON body. It reads the body itself, while it is being sent.

    A batch is what has arrived, up to `STEP` lines: a slow client gets each label at once, a fast one gets
    the throughput of batches. The next lines are read when the connection has taken the answer to the last
    ones, so a client that does not read is not read from.

    If the store fails before the first answer, the status is 503. Later, a problem document is the last
    line: what was answered before it is stored, the rest is to be sent again.
    """

    def __init__(self, request: Request, services: Services, target: LabelTarget, store: bool) -> None:
        self._request = request
        self._services = services
        self._target = target
        self._store = store
        self._totals = StreamTotals(target)
        self._trace = current_trace()
        self._trace.streamed = True
        self._started = False
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        lines = LineReader(self._request.stream())
        try:
            with self._services.admission.streams.take(1):
                while batch := await self._next(lines):
                    await self._write(send, await self._answer(batch, lines.count - len(batch)))
                complete = not self._services.draining
                last = _encode(self._totals.summary(self._trace, complete=complete)) + b"\n"
        except ClientDisconnect:
            return  # what was answered is stored; the client will send the rest again
        except ReelrankError as e:
            note(e, self._trace)
            if not self._started:
                await response_of(e)(scope, receive, send)
                return
            last = _encode(document_of(e)) + b"\n"
        await self._write(send, last, more=False)

    async def _next(self, lines: LineReader) -> list[DecodedEvent]:
        """Return the lines that are there; none at the end of the body, or when the service is shutting
        down."""
        batch = asyncio.ensure_future(lines.batch(STEP))
        timeout_s = self._services.settings.body_timeout_s
        began_at = lines.received_at = monotonic()
        try:
            while not self._services.draining:
                if (await asyncio.wait([batch], timeout=DRAIN_POLL_S))[0]:
                    return batch.result()
                if monotonic() - lines.received_at > timeout_s:
                    raise BodyTooSlow(
                        f"Nothing came for {timeout_s:g} s (REELRANK_BODY_TIMEOUT_S). Between events send "
                        "an empty line now and then."
                    )
                if monotonic() - began_at > BLANK_TIMEOUTS * timeout_s:
                    raise BodyTooSlow(
                        f"No event came for {BLANK_TIMEOUTS * timeout_s:g} s. Open another stream when there "
                        "is one: this one's place is for streams with events."
                    )
            return []
        finally:
            batch.cancel()

    async def _answer(self, batch: list[DecodedEvent], offset: int) -> bytes:
        """Store and label a batch; return its lines."""
        self._trace.mark("parse")
        with await self._services.admission.streamed.wait(len(batch)):
            query = LabelQuery(batch, self._target, self._store, offset)
            labelled = await self._services.label.run(query)
        return b"".join(_encode(line) + b"\n" for line in self._totals.add(labelled))

    async def _write(self, send: Send, lines: bytes, *, more: bool = True) -> None:
        if not self._started:
            # nginx holds an answer back until it is long or over, unless it is asked not to
            headers = [(b"content-type", NDJSON.encode()), (b"x-accel-buffering", b"no")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            self._started = True
        await send({"type": "http.response.body", "body": lines, "more_body": more})
