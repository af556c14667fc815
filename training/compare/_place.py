"""Names beside points, so that no name covers another."""

# Shape suffixes: P points, C candidate places.

from __future__ import annotations

from typing import Final

import numpy as np

from models.arrays import F64

_RINGS: Final = 24
_SPOKES: Final = 16
_CLEAR: Final = 5.0
"""Between a name and a point, in the unit of the page."""


def spread_out(at_P2: F64, size_P2: F64) -> F64:
    """Where to write P names of these sizes near their points: `[P, 2]` centres, in the unit given.

    One name after the other takes the nearest place, on rings round its point, where it covers no name
    before it and no point; where there is none, the place where it covers least.
    """
    angle = np.pi / 2 + np.linspace(0, 2 * np.pi, _SPOKES, endpoint=False)  # above the point first
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    taken: list[F64] = []
    for i, (point, size) in enumerate(zip(at_P2, size_P2, strict=True)):
        reach = size / 2 + _CLEAR
        place_C2 = np.concatenate([point + circle * reach * (1 + 0.35 * ring) for ring in range(_RINGS)])
        covered_C = _covered(place_C2, at_P2, np.broadcast_to(reach, at_P2.shape))
        if taken:
            covered_C += _covered(place_C2, np.stack(taken), (size + size_P2[:i]) / 2)
        taken.append(place_C2[np.argmin(covered_C)])  # the first of the least: rings come in order
    return np.stack(taken) if taken else np.zeros((0, 2))


def _covered(place_C2: F64, other_P2: F64, reach_P2: F64) -> F64:
    """`[C]` the area that a box at each place shares with the others; `reach` is half of both together."""
    overlap = np.maximum(reach_P2 - np.abs(place_C2[:, None] - other_P2[None]), 0.0)
    out: F64 = overlap.prod(axis=-1).sum(axis=-1)
    return out
