"""How two bundles' answers to one request differ."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.metrics import xauc
from service.pipeline.labels import Labels
from service.pipeline.rerank import Slate

TOP: Final = 10


def slate_differences(answer: Slate, other: Slate) -> dict[str, float]:
    """Mean absolute differences over the candidates: `watch_time_s` in seconds, `score`.

    Args:
        answer: N candidates.
        other: the same candidates, in the same order.
    """
    return {
        "watch_time_s": float(np.abs(answer.watch_time_s - other.watch_time_s).mean()),
        "score": float(np.abs(answer.score - other.score).mean()),
    }


def order_agreement(answer: Slate, other: Slate) -> dict[str, float]:
    """How alike the orders are.

    `kendall_tau` is (concordant - discordant pairs) / all pairs of candidates, from -1 (reversed) to 1; a
    slate of one has none. `overlap_at_10` is the share of the first ten that both have, whatever their
    places; of a shorter slate, of all its candidates, and then it is 1.
    """
    size = len(answer.order)
    both = set(answer.order[:TOP]) & set(other.order[:TOP])
    found = {"overlap_at_10": len(both) / min(TOP, size)}
    places = np.empty((2, size))
    places[0, answer.order] = places[1, other.order] = np.arange(size)
    concordant = xauc(places[1], places[0])
    if concordant is not None:
        found["kendall_tau"] = 2 * concordant - 1
    return found


def label_differences(answer: Labels, other: Labels) -> dict[str, float]:
    """By label that both have, the mean absolute difference over the events; there is at least one."""
    return {
        name: float(np.abs(np.subtract(values, other.by_name[name])).mean())
        for name, values in answer.by_name.items()
        if name in other.by_name
    }
