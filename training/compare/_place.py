"""Names beside points, so that no name covers another."""

# Shape suffixes: P points.

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.data._interactions import F64

_ROUNDS = 400
_CLEAR = 6.0  # between a name and a point


def spread_out(at_P2: F64, size_P2: F64) -> F64:
    """Where to write P names of these sizes near their points: `[P, 2]` centres, in the unit given.

    Each begins above its point. In every round, boxes that overlap each other or a point are pushed apart
    along the shorter way out; in the first half of the rounds all are drawn back a little to their points.
    """
    place = at_P2 + np.array([0.0, 0.8]) * size_P2
    reach = (size_P2[:, None] + size_P2[None]) / 2
    # Names of equal points would push along no direction; a fixed small shift decides for them.
    place = place + np.linspace(-0.5, 0.5, len(place))[:, None]
    own = np.eye(len(place), dtype=bool)
    for turn in range(_ROUNDS):
        push = _push(place[:, None] - place[None], reach, but=own)
        push += _push(
            place[:, None] - at_P2[None], np.repeat(size_P2[:, None] / 2 + _CLEAR, len(place), axis=1)
        )
        place = place + 0.5 * push
        if turn < _ROUNDS // 2:
            place += 0.02 * (at_P2 - place)
    return place


def _push(apart: F64, reach: F64, but: npt.NDArray[np.bool_] | None = None) -> F64:
    """`[P, 2]` what moves each box out of those it overlaps; `apart` and `reach` are `[P, P, 2]`."""
    overlap = reach - np.abs(apart)
    both = (overlap > 0).all(axis=-1)
    if but is not None:
        both &= ~but
    shorter = np.eye(2, dtype=bool)[overlap.argmin(axis=-1)]
    direction = np.where(apart >= 0, 1.0, -1.0)
    out: F64 = np.where(both[..., None] & shorter, overlap * direction / 2, 0.0).sum(axis=1)
    return out
