"""What fixed mixes of two recommenders reach: the front that a row has to lie beyond."""

# Shape suffixes: R rows of the window.

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from models.arrays import F32, F64, I64
from training.compare.labels._judge import Window

SHARES: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""a of the mixes that are shown."""


def places(user_R: I64, score_R: F32 | F64) -> F64:
    """`[R]` each row's place in its user's list, from 0 (last) to 1 (first); a lone row has 1.

    Equal scores keep the order of the rows, as in the lists that the metrics judge.
    """
    order = np.lexsort((-score_R.astype(np.float64), user_R))
    _, first, count = np.unique(user_R[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(first, count)
    out = np.empty(len(order))
    out[order] = 1.0 - rank / np.repeat(np.maximum(count - 1, 1), count)
    return out


def mixes(window: Window, of: F32, and_of: F32, shares: Sequence[float] = SHARES) -> list[dict[str, float]]:
    """The figures of `(1 - a) place + a place'` for each a: no labels learned, two rankings averaged.

    Args:
        window: what is judged.
        of, and_of: `[R]` the two scores; a = 0 lists as the first does, a = 1 as the second.
        shares: the a.
    """
    one, other = places(window.user, of), places(window.user, and_of)
    found = []
    for share in shares:
        figures = window.figures(window.values((1 - share) * one + share * other))
        found.append({"share": share, **{k: v for k, v in figures.items() if v is not None}})
    return found


def beyond(x: float, y: float, front_x: Sequence[float], front_y: Sequence[float]) -> float:
    """How far a point lies beyond a front, in the smaller of its two leads; negative: that far behind.

    The front is the line through its points: between two mixes lie finer ones.

        min over the front of max(x - x_f, y - y_f)

    Args:
        x, y: the point; more is better in both.
        front_x, front_y: the front's points in order.
    """
    at = np.linspace(0, len(front_x) - 1, 20 * len(front_x))
    along = np.arange(len(front_x))
    lead_x = x - np.interp(at, along, front_x)
    lead_y = y - np.interp(at, along, front_y)
    return float(np.maximum(lead_x, lead_y).min())
