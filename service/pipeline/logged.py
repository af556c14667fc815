"""Answers of the pipelines as lines of the served log."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import msgspec
import numpy as np

from models.schema import FeedbackEvent
from models.served_log import LoggedSlate
from service.pipeline.label import LabelledEvents
from service.pipeline.rerank import RankedSlate
from service.pipeline.validation import REFUSED
from service.telemetry.trace import current_trace

_encode: Final = msgspec.json.Encoder().encode
_encode_lines: Final = msgspec.json.Encoder().encode_lines


class Log(Protocol):
    """The served log."""

    def append_events(self, lines: bytes) -> None:
        """Append whole lines, which killing the process then loses no more."""
        ...

    def submit_slate(self, line: Callable[[], bytes]) -> None:
        """Queue a line to be made and appended later, or drop it."""
        ...


def log_events(log: Log, labelled: LabelledEvents) -> None:
    """Append the events that the store has taken, before they are answered for."""
    if not labelled.query.store:
        return
    taken: dict[str, list[FeedbackEvent]] = {}
    for event, outcome in zip(labelled.events, labelled.outcomes, strict=True):
        if outcome.kind not in REFUSED:
            taken.setdefault(outcome.kind, []).append(event)
    if taken:
        now_ms = int(time.time() * 1000)
        log.append_events(
            b"".join(
                # Only at the end of a line a brace is followed by a line break: within texts that is escaped.
                _encode_lines(events).replace(
                    b"}\n", b',"outcome":"%b","logged_at_ms":%d}\n' % (outcome.encode(), now_ms)
                )
                for outcome, events in taken.items()
            )
        )


def log_slate(log: Log, ranked: RankedSlate) -> None:
    """Queue a slate."""
    log.submit_slate(partial(_slate_line, ranked, current_trace().request_id))


def _slate_line(ranked: RankedSlate, request_id: str) -> bytes:
    query, slate, context, manifest = ranked.query, ranked.slate, ranked.context, ranked.bundle.manifest
    order, shown, explored = slate.order, len(slate.order), None
    if ranked.arrangement is not None:
        shown, explored = len(ranked.arrangement.order), ranked.arrangement.explored
        order = np.concatenate((ranked.arrangement.order, order[~np.isin(order, ranked.arrangement.order)]))
    line = LoggedSlate(
        request_id=request_id if query.request_id is None else query.request_id,
        user_id=query.user_id,
        timestamp_ms=context.now_ms,
        model_version=manifest.version,
        weights=ranked.weights,
        returned=shown if query.top_k is None else min(query.top_k, shown),
        history_length=slate.history_length,
        video_id=list(map(context.candidates.video_id.__getitem__, order.tolist())),
        score=slate.score[order].astype(np.float64).round(6).tolist(),
        tab=context.tab,
        degraded=ranked.degraded,
        rules={} if query.rules is None else msgspec.to_builtins(query.rules),
        experiment=None if ranked.assigned is None else ranked.assigned.experiment,
        arm=None if ranked.assigned is None else ranked.assigned.arm.name,
        explore={} if explored is None else msgspec.to_builtins(explored.explore),
        propensity=[] if explored is None else explored.propensity[: query.top_k].tolist(),
    )
    return _encode(line) + b"\n"
