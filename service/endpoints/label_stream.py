"""POST /label as a stream: lines in, lines out, bounded memory on both sides."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from time import monotonic
from typing import Final

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from models.errors import BodyTooSlow, ReelrankError
from service.http.body import NDJSON
from service.http.errors import document_of, reason_of, response_of
from service.http.label_request import MAX_LINE_BYTES, Read, long_line, read_line
from service.inference.serving_set import Serving
from service.pipeline.label import Ingested, ingest
from service.services import Services
from service.telemetry.trace import Trace
from service.wire import StreamSummary

BATCH: Final = 500
"""Most lines that are written and labelled in one step."""

DRAIN_POLL_S: Final = 0.2
"""How soon a stream that waits for its client notices that the service is shutting down."""

_encode: Final = msgspec.json.Encoder().encode


class Lines:
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
        self.taken = 0
        """Lines handed out so far; blank ones do not count."""
        self.heard_at = monotonic()
        """When the last bytes came, be they a blank line."""

    async def batch(self, limit: int) -> list[Read]:
        """What has arrived, at least one line and at most `limit`; nothing at the end of the body."""
        while not self._ready and not self._ended:
            await self._receive()
        batch: list[Read] = []
        while self._ready and len(batch) < limit:
            line, index = self._ready.popleft(), self.taken + len(batch)
            batch.append(long_line(index) if line is None else read_line(line, index))
        self.taken += len(batch)
        return batch

    async def _receive(self) -> None:
        try:
            chunk = await anext(self._chunks)
            self.heard_at = monotonic()
        except StopAsyncIteration:
            self._ended = True
            chunk = b"\n"  # the last line need not end with one
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            if self._skipping:  # the end of a line that has been refused already
                self._skipping = False
            elif line.strip():
                self._ready.append(line if len(line) <= MAX_LINE_BYTES else None)
        if len(self._rest) > MAX_LINE_BYTES:
            if not self._skipping:
                self._ready.append(None)
            self._skipping, self._rest = True, b""


class NdjsonLabels(Response):
    """The answer to an NDJSON body. It reads the body itself, while it is being sent.

    A batch is what has arrived, up to `BATCH` lines: a slow client gets each label at once, a fast one gets
    the throughput of batches. The next lines are read when the connection has taken the answer to the last
    ones, so a client that does not read is not read from.

    If the store fails before the first answer, the status tells (503). Later, a problem document is the last
    line: what was answered before it is stored, the rest is to be sent again.
    """

    def __init__(
        self,
        request: Request,
        services: Services,
        trace: Trace,
        serving: Serving,
        names: Sequence[str],
        *,
        store: bool,
    ) -> None:
        self._request = request
        self._services = services
        self._trace = trace
        trace.streamed = True
        self._serving = serving
        self._names = names
        self._store = store
        self._total = Ingested()
        self._rejected = 0
        self._started = False
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        lines = Lines(self._request.stream())
        try:
            with self._services.admission.streams.take(1):
                while batch := await self._next(lines):
                    await self._write(send, await self._answer(batch, lines.taken - len(batch)))
                last = self._summary()
        except ClientDisconnect:
            return  # what was answered is stored; the client will send the rest again
        except ReelrankError as e:
            self._trace.reason = reason_of(e)
            if not self._started:
                await response_of(e)(scope, receive, send)
                return
            last = _encode(document_of(e)) + b"\n"
        await self._write(send, last, more=False)

    async def _next(self, lines: Lines) -> list[Read]:
        """The lines that are there; none at the end of the body, or when the service is shutting down."""
        waiting = asyncio.ensure_future(lines.batch(BATCH))
        timeout_s = self._services.settings.body_timeout_s
        lines.heard_at = monotonic()
        try:
            while not self._services.draining:
                if (await asyncio.wait([waiting], timeout=DRAIN_POLL_S))[0]:
                    return waiting.result()
                if monotonic() - lines.heard_at > timeout_s:
                    raise BodyTooSlow(
                        f"Nothing came for {timeout_s:g} s (REELRANK_BODY_TIMEOUT_S). Between events send "
                        "an empty line now and then."
                    )
            return []
        finally:
            waiting.cancel()

    async def _answer(self, batch: list[Read], first: int) -> bytes:
        """Write and label a batch -> its lines, in the order of the body; a late event has two."""
        self._trace.mark("parse")
        with await self._services.admission.streamed.wait(len(batch)):
            done = await ingest(
                self._services,
                self._serving,
                batch,
                self._names,
                store=self._store,
                trace=self._trace,
                first=first,
            )
        self._total.accepted += done.accepted
        self._total.duplicates += done.duplicates
        self._total.merged += done.merged
        self._total.versions |= done.versions
        self._rejected += len(done.rejected)
        answers = [(index, _encode(label)) for index, label in done.labels]
        answers += [(r.index, _encode(r)) for r in done.rejected]
        answers.sort(key=lambda answer: answer[0])
        return b"".join(line + b"\n" for _, line in answers)

    def _summary(self) -> bytes:
        summary = StreamSummary(
            status="shutting_down" if self._services.draining else "ok",
            accepted=self._total.accepted,
            duplicates=self._total.duplicates,
            merged=self._total.merged,
            rejected=self._rejected,
            model_version=self._total.version(self._serving),
            took_ms=self._trace.took_ms(),
        )
        return _encode(summary) + b"\n"

    async def _write(self, send: Send, lines: bytes, *, more: bool = True) -> None:
        if not self._started:
            headers = [(b"content-type", NDJSON.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            self._started = True
        await send({"type": "http.response.body", "body": lines, "more_body": more})
