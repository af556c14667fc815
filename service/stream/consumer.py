"""The loop of `python -m service consume`: entries in, labels or dead letters out, each entry once.

An entry is read, its event goes the way of POST /label (idempotent by `event_id`), and then writing what
became of it and acknowledging it are one step. A consumer may die at any point: the entry is still pending,
another takes it over, the store knows the event already, and the one step happens once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from models.errors import BadInput, NotReady, StoreUnavailable
from models.schema import FeedbackEvent
from service.pipeline.label import LabelPipeline
from service.pipeline.label_query import LabelQuery, decode_line
from service.pipeline.label_reply import label_rows
from service.stream.metrics import StreamMetrics
from service.stream.source import Entry, Output, Source
from service.wire import Rejected

log = logging.getLogger("reelrank.consumer")

FIELD: Final = b"event"
"""Of an entry: one event as JSON."""

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
"""While the store is away; the pause doubles up to this."""

REPORT_S: Final = 1.0
"""How often at most the backlog is measured and abandoned entries are looked for."""

PER_EVENT_ERRORS: Final = ("unreadable", "other")
"""Reasons why a store that is there fails: what it holds on this user is damaged, or a fault of ours. For
every other `StoreUnavailable.reason` it is waited for."""

_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class ConsumerConfig:
    """Options of a consumer."""

    batch: int = 500
    """Entries that are read, written and labelled together."""
    labels: tuple[str, ...] = ()
    """Names of the labels; empty: the bundle's first."""
    idle_s: float = 60.0
    """An entry that has been pending for longer was abandoned."""
    deliveries: int = 5
    """An entry that was given out more often goes to the dead letters."""
    trim: bool = False
    """Remove events that every group has settled."""


class Consumer:
    """One consumer of the group.

    Args:
        pipeline: that labels.
        source: of the events, which also takes what became of them.
        config: see `ConsumerConfig`.
        metrics: what it counts.
        stop: set it to finish the batch and end.
    """

    def __init__(
        self,
        pipeline: LabelPipeline,
        source: Source,
        config: ConsumerConfig,
        metrics: StreamMetrics,
        stop: asyncio.Event,
    ) -> None:
        self._pipeline = pipeline
        self._source = source
        self._config = config
        self._metrics = metrics
        self._stop = stop
        self._pause_s = FIRST_PAUSE_S
        self.settled = {"labels": 0, "dead": 0}
        """Entries by where they went."""

    async def run(self) -> None:
        """Consume until `stop` is set. A store that is away is waited for.

        Raises:
            BadInput: the keys are no streams, we may not use them, or the bundle does not serve a label.
        """
        own_taken, report_at = False, 0.0
        while not self._stop.is_set():
            try:
                if not own_taken:
                    await self._source.prepare()
                    await self._take_own()
                    own_taken = True
                if time.monotonic() >= report_at:
                    await self._take_abandoned()
                    await self._report_backlog()
                    report_at = time.monotonic() + min(REPORT_S, self._config.idle_s)
                if entries := await self._source.new(self._config.batch):
                    await self._work(entries)
                self._pause_s = FIRST_PAUSE_S
            except StoreUnavailable as e:
                if e.reason == "denied" and not own_taken:
                    raise BadInput(f"{e}. This user needs rights to the streams and their commands.") from e
                own_taken = False  # what was given out just then may have been lost on the way to us
                await self._wait(e)

    async def _work(self, entries: Sequence[Entry]) -> None:
        """Settle the entries. Those that cannot be worked on although the store answers are tried alone, and
        what fails alone stays pending: it comes again after `idle_s`, with its deliveries counted."""
        failures = 0
        while failures < 2:
            try:
                outputs = await self._outputs(entries)
                break
            except (BadInput, asyncio.CancelledError):
                raise
            except NotReady as e:
                await self._wait(e)
            except StoreUnavailable as e:
                failures += e.reason in PER_EVENT_ERRORS
                await self._wait(e)
            except Exception:
                log.exception("%d entries from %s on failed", len(entries), entries[0].id.decode())
                failures = 2
            if self._stop.is_set():
                return
        else:
            if len(entries) == 1:
                self._metrics.failed.inc()
                return
            for entry in entries:
                await self._work([entry])
                if self._stop.is_set():
                    return
            return
        await self._settle(outputs)

    async def _outputs(self, entries: Sequence[Entry]) -> list[Output]:
        """Write the events and label them -> what became of each entry, in their order."""
        target = self._pipeline.target(self._config.labels)
        events = [_read(entry, index) for index, entry in enumerate(entries)]
        done = await self._pipeline.run(LabelQuery(events, target))
        version = target.serving.active.manifest.version
        late = {rejected.index for rejected in done.rejected if rejected.code == "late"}
        outputs = [
            Output(
                entries[index].id,
                "labels",
                {
                    "entry": entries[index].id,
                    "label": _encode(label),
                    "model_version": (label.model_version or version).encode(),
                }
                | ({"late": b"true"} if index in late else {}),
                key=label.event_id.encode(),
            )
            for index, label in label_rows(done)
        ]
        outputs += [dead(entries[r.index], r.code, r.detail) for r in done.rejected if r.code != "late"]
        return outputs

    async def _settle(self, outputs: Sequence[Output]) -> None:
        while True:
            try:
                settled = await self._source.settle(outputs)
                break
            except StoreUnavailable as e:
                if (
                    e.reason in PER_EVENT_ERRORS
                ):  # e.g. stream and group were removed: `run` creates them anew
                    raise
                await self._wait(e)
                if self._stop.is_set():  # still pending: the next life of this name settles it
                    return
        for output in settled:
            self.settled[output.to] += 1
            if output.to == "labels":
                self._metrics.processed.inc()
            else:
                self._metrics.dead.labels(output.fields["code"].decode()).inc()
        self._pause_s = FIRST_PAUSE_S

    async def _take_own(self) -> None:
        """Work on entries that an earlier run of this consumer's name left pending."""
        after = b"0-0"
        while (entry := await self._source.own(after)) and not self._stop.is_set():
            after = entry.id
            await self._handle_redelivery(entry)

    async def _take_abandoned(self) -> None:
        cursor = b"0-0"
        while not self._stop.is_set():
            cursor, entry, gone = await self._source.abandoned(cursor, self._config.idle_s)
            if gone:
                self._metrics.lost.inc(gone)
                log.error("%d entries were deleted from the stream before they were settled", gone)
            if entry is not None:
                await self._handle_redelivery(entry)
            if cursor == b"0-0":
                return

    async def _handle_redelivery(self, entry: Entry) -> None:
        """Work on an entry that was given out before, or bury one that was given out too often."""
        self._metrics.redelivered.inc()
        deliveries = await self._source.deliveries(entry)
        if deliveries > self._config.deliveries:
            detail = (
                f"Given out {deliveries} times and never settled; the consumers' logs may say why. "
                "Add it to the stream again once that is mended."
            )
            await self._settle([dead(entry, "undeliverable", detail)])
        else:
            await self._work([entry])

    async def _report_backlog(self) -> None:
        backlog = await self._source.backlog()
        self._metrics.pending.set(backlog.pending)
        self._metrics.lag.set(float("nan") if backlog.lag is None else backlog.lag)
        if self._config.trim:
            await self._source.trim()

    async def _wait(self, error: Exception) -> None:
        """Pause before a retry; the pause doubles until something works again, and a stop ends it."""
        log.warning("%s; again in %.1f s", error, self._pause_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause_s):
                await self._stop.wait()
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)


def dead(entry: Entry, code: str, detail: str) -> Output:
    """Return a dead letter: the reason, and everything that was in the entry."""
    said = {"entry": entry.id, "code": code.encode(), "detail": detail.encode("utf-8", "backslashreplace")}
    if FIELD in entry.fields:
        said["event"] = entry.fields[FIELD]
    others = {_text(name): _text(value) for name, value in entry.fields.items() if name != FIELD}
    if others:
        said["fields"] = _encode(others)
    return Output(entry.id, "dead", said, entry.key)


def _read(entry: Entry, index: int) -> FeedbackEvent | Rejected:
    text = entry.fields.get(FIELD)
    if text is None:
        found = ", ".join(_text(name) for name in entry.fields) or "none: it was deleted"
        detail = f"An entry has a field `event` with one event as JSON; found {found}."
        return Rejected(index=index, code="malformed", detail=detail)
    return decode_line(text, index)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
