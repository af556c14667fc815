"""Labelled events as the reply of POST /label, as one document or line by line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat

import msgspec

from models.errors import NothingAccepted
from service.pipeline.label import LabelledEvents
from service.pipeline.label_query import LabelTarget
from service.telemetry.trace import Trace
from service.wire import Label, LabelReply, Rejected, StreamSummary


def label_reply(labelled: LabelledEvents, trace: Trace) -> LabelReply:
    """Return the reply to a JSON body.

    Raises:
        NothingAccepted: every event was rejected.
    """
    labels = label_rows(labelled)
    if labelled.rejected and not labels:
        raise NothingAccepted(labelled.rejected)
    counts = labelled.counts
    return LabelReply(
        status="ok",
        accepted=counts["accepted"],
        duplicates=counts["duplicate"],
        merged=counts["merged"],
        rejected=labelled.rejected,
        labels=[label for _, label in labels],
        model_version=_version(_versions(labelled), labelled.query.target),
        took_ms=trace.took_ms(),
    )


def label_rows(labelled: LabelledEvents) -> list[tuple[int, Label]]:
    """Return the labels as they are answered, with the positions of their events, in the body's order."""
    rows: list[tuple[int, Label]] = []
    for batch in labelled.batches:
        is_current = batch.bundle is labelled.query.target.serving.active
        version = msgspec.UNSET if is_current else batch.bundle.manifest.version
        shares: Iterable[tuple[float | msgspec.UnsetType, dict[str, float] | msgspec.UnsetType]]
        shares = _by_event(batch.labels.percentiles) or repeat((msgspec.UNSET, msgspec.UNSET))
        rows += [
            (
                position,
                Label(
                    event.event_id,
                    event.user_id,
                    event.video_id,
                    *labels,
                    *percentiles,
                    duplicate,
                    version,
                ),
            )
            for (position, event, duplicate), labels, percentiles in zip(
                batch.exposures, _by_event(batch.labels.by_name), shares, strict=False
            )
        ]
    if len(labelled.batches) > 1:
        rows.sort(key=lambda row: row[0])
    return rows


def _by_event(columns: Mapping[str, Sequence[float]]) -> Sequence[tuple[float, dict[str, float]]]:
    """Per event its first value, and all by name."""
    if len(columns) == 1:  # as in most requests
        ((name, values),) = columns.items()
        return [(value, {name: value}) for value in values]
    names = tuple(columns)
    return [(row[0], dict(zip(names, row, strict=True))) for row in zip(*columns.values(), strict=True)]


class StreamTotals:
    """What became of the events of a stream so far.

    Args:
        target: what labels them.
    """

    def __init__(self, target: LabelTarget) -> None:
        self._target = target
        self._counts: Counter[str] = Counter()
        self._versions: set[str] = set()

    def add(self, labelled: LabelledEvents) -> list[Label | Rejected]:
        """Count a batch and return its lines, in the order of the body; a late event has two."""
        self._counts += labelled.counts
        self._counts["rejected"] += len(labelled.rejected)
        self._versions |= _versions(labelled)
        lines: list[tuple[int, Label | Rejected]] = [*label_rows(labelled)]
        lines += [(rejected.index, rejected) for rejected in labelled.rejected]
        lines.sort(key=lambda line: line[0])
        return [line for _, line in lines]

    def summary(self, trace: Trace, *, complete: bool) -> StreamSummary:
        """Return the last line.

        Args:
            trace: of the request.
            complete: whether the body was read to its end; else the service is shutting down.
        """
        return StreamSummary(
            status="ok" if complete else "shutting_down",
            accepted=self._counts["accepted"],
            duplicates=self._counts["duplicate"],
            merged=self._counts["merged"],
            rejected=self._counts["rejected"],
            model_version=_version(self._versions, self._target),
            took_ms=trace.took_ms(),
        )


def _versions(labelled: LabelledEvents) -> set[str]:
    return {batch.bundle.manifest.version for batch in labelled.batches if batch.exposures}


def _version(versions: set[str], target: LabelTarget) -> str:
    """The version that labelled everything; the current one where that is none or several."""
    return next(iter(versions)) if len(versions) == 1 else target.serving.active.manifest.version
