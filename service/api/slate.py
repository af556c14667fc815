"""A computed slate -> the items of a reply.

Shape suffixes: N candidates, K anchors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.schema import Candidate
from service.api.wire import Anchor, Item, ItemExplanation
from service.core.reranker import Explanation, Slate

DECIMALS: Final = 6
"""Of every number in a reply: float32 holds no more, and the text is half as long."""


def items(candidates: Sequence[Candidate], slate: Slate, top_k: int | None) -> list[Item]:
    """The best `top_k` candidates, best first; all of them without a `top_k`."""
    order = slate.order[:top_k]
    ids = [candidates[i].video_id for i in order]
    score, seconds, ratio = (_rounded(x[order]) for x in (slate.score, slate.watch_time_s, slate.watch_ratio))
    names = tuple(slate.objectives)
    values = zip(*(_rounded(x[order]) for x in slate.objectives.values()), strict=True)
    of_items = [dict(zip(names, value, strict=True)) for value in values]
    if slate.explanation is None:
        return list(map(Item, ids, range(1, len(ids) + 1), score, seconds, ratio, of_items))
    explained = _explanations(slate.explanation, order)
    return list(map(Item, ids, range(1, len(ids) + 1), score, seconds, ratio, of_items, explained))


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
