"""Fusion: the score of a candidate from its objectives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from models.arrays import F32
from models.errors import BadInput

FLOOR: Final = 1e-6
"""Objective values are kept at or above it, so that the logarithm is finite."""


def fuse(values: Mapping[str, F32], weights: Mapping[str, float]) -> tuple[F32, dict[str, F32]]:
    """Fuse objectives log-linearly, into their weighted geometric mean.

        score = exp( Σ_o ω_o log v_o / Σ_o |ω_o| )

    A negative weight makes an objective count against a candidate. A weight of 0 leaves it out.

    Args:
        values: per objective one value in [0, 1] a candidate, all `[N]`.
        weights: per objective its ω; an objective without one counts 0.

    Returns:
        The score `[N]`, and per objective its part `ω_o log v_o / Σ|ω|` of the score's logarithm.

    Raises:
        BadInput: a weight names no objective, is not finite, or all of them are 0.
    """
    unknown = sorted(set(weights) - set(values))
    if unknown:
        raise BadInput(f"`weights` names {unknown[0]!r}; this bundle has {sorted(values)}.")
    total = sum(abs(w) for w in weights.values())
    if not 0 < total < float("inf"):
        raise BadInput(f"`weights` must be finite and not all 0, found {dict(weights)}.")
    # One matrix: eleven objectives of two hundred candidates are otherwise dozens of calls for little each.
    value_TN = np.array(list(values.values()), np.float32)
    share_T = np.array([weights.get(name, 0.0) / total for name in values], np.float32)
    part_TN = np.log(np.maximum(value_TN, np.float32(FLOOR))) * share_T[:, None]
    score: F32 = np.exp(part_TN.sum(axis=0))
    return score, dict(zip(values, part_TN, strict=True))
