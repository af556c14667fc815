"""A ranked slate as the reply of POST /rerank.

Shape suffixes: N candidates, K anchors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import repeat
from typing import Any, Final, cast

import msgspec
import numpy as np
import numpy.typing as npt

from models.features import Candidates
from service.pipeline.ranking import Explanation, Slate
from service.pipeline.rerank import RankedSlate
from service.telemetry.trace import Trace
from service.wire import Anchor, Item, ItemExplanation, RerankReply

DECIMALS: Final = 6
"""Of every number in a reply: float32 holds no more, and the text is half as long."""


def rerank_reply(ranked: RankedSlate, trace: Trace) -> RerankReply:
    """Return the reply to a query.

    Args:
        ranked: the slate.
        trace: of the request: its id stands in where the query has none.
    """
    query, slate = ranked.query, ranked.slate
    return RerankReply(
        request_id=query.request_id if query.request_id is not None else trace.request_id,
        items=items(ranked.context.candidates, slate, ranked.objectives, query.top_k),
        model_version=ranked.bundle.manifest.version,
        degraded=ranked.degraded,
        warnings=[
            f"Candidate {video_id!r} is named more than once; ranked once." for video_id in ranked.repeated
        ],
        history_length=slate.history_length,
        took_ms=trace.took_ms(),
    )


def items(candidates: Candidates, slate: Slate, objectives: tuple[str, ...], top_k: int | None) -> list[Item]:
    """Return the best `top_k` candidates, or all, best first, with these objectives."""
    order = slate.order[:top_k]
    columns = (
        slate.score,
        slate.watch_time_s,
        slate.watch_ratio,
        *(slate.objectives[name] for name in objectives),
    )
    score, seconds, ratio, *values = _rounded(np.stack(columns)[:, order])
    ids = [candidates.video_id[i] for i in order]
    ranks = range(1, len(ids) + 1)
    if slate.explanation is None:
        by_name = map(_objectives_struct(objectives), *values) if objectives else repeat({})
        return list(map(Item, ids, ranks, score, seconds, ratio, by_name))
    rows = [dict(zip(objectives, row, strict=True)) for _, *row in zip(ids, *values, strict=True)]
    return list(map(Item, ids, ranks, score, seconds, ratio, rows, _explanations(slate.explanation, order)))


@lru_cache(maxsize=64)  # callers choose the names
def _objectives_struct(names: tuple[str, ...]) -> Callable[..., dict[str, float]]:
    """A struct that is written as `{name: value, …}`, in half the time of a dictionary."""
    fields = [(f"objective_{index}", float) for index in range(len(names))]
    rename = dict(zip((name for name, _ in fields), names, strict=True))
    struct = msgspec.defstruct("Objectives", fields, rename=rename, gc=False)
    return cast(Callable[..., dict[str, float]], struct)


def _explanations(explanation: Explanation, order: list[int]) -> list[ItemExplanation]:
    names = tuple(explanation.parts)
    parts = zip(*(_rounded(x[order]) for x in explanation.parts.values()), strict=True)
    rows = zip(
        parts,
        _rounded(explanation.anchor_ratio[order]),
        _rounded(explanation.anchor_weights[order]),
        _rounded(explanation.quantiles_s[order]),
        strict=True,
    )
    return [
        ItemExplanation(
            parts=dict(zip(names, part, strict=True)),
            anchors=list(map(Anchor, ratios, weights)),
            watch_time_s={"p10": p10, "p50": p50, "p90": p90},
        )
        for part, ratios, weights, (p10, p50, p90) in rows
    ]


def _rounded(x: npt.NDArray[np.float32]) -> list[Any]:
    rounded: list[Any] = np.round(x.astype(np.float64), DECIMALS).tolist()
    return rounded
