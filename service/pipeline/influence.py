"""What each exposure of a user's sequence does to the candidates' scores, by leaving it out. Pure.

    influence_lc = score_c(sequence) - score_c(sequence without exposure l)

Shape suffixes: B sequences, L exposures, C candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.arrays import F32
from models.features import Array
from models.fusion import fuse
from models.manifest import EXPECTED_WATCH_TIME, OBJECTIVES
from models.runtime import Bundle
from service.pipeline.ranking import RankingContext, ranker_inputs

SEQUENCE_INPUTS = ("sequence_ids", "sequence_feedback", "sequence_age_s")


@dataclass(frozen=True, slots=True)
class Influences:
    """Scores and seconds of C candidates, and what each of L exposures adds to them."""

    score: F32
    """`[C]`."""
    watch_time_s: F32
    """`[C]`."""
    added_score: F32
    """`[L, C]`: with the exposure minus without it."""
    added_s: F32
    """`[L, C]`: likewise, of the seconds."""


def influences(bundle: Bundle, context: RankingContext, weights: Mapping[str, float]) -> Influences:
    """Rank the candidates once with the whole sequence and once without each of its exposures.

    Args:
        bundle: taken once by the caller.
        context: what to rank. Exposures before the sequence stay as they are.
        weights: fusion weights that `fusion_weights` has passed.
    """
    inputs = ranker_inputs(bundle, context)
    length = inputs["sequence_ids"].shape[1]
    score_1C, watch_time_s_1C = _scores(bundle, inputs, weights)
    if length == 0:
        none_LC = np.zeros((0, len(context.candidates)), np.float32)
        return Influences(score_1C[0], watch_time_s_1C[0], none_LC, none_LC)
    without = {name: _without_each(x, name in SEQUENCE_INPUTS, length) for name, x in inputs.items()}
    score_LC, watch_time_s_LC = _scores(bundle, without, weights)
    return Influences(score_1C[0], watch_time_s_1C[0], score_1C - score_LC, watch_time_s_1C - watch_time_s_LC)


def _without_each(x: Array, is_sequence: bool, length: int) -> Array:
    """Return an input `[1, ...]` once for each exposure left out: `[L, ...]`, or `[L, L - 1, ...]`."""
    rows: Any = x[0]
    out: Array = np.stack([np.delete(rows, step, axis=0) if is_sequence else rows for step in range(length)])
    return out


def _scores(bundle: Bundle, inputs: Mapping[str, Array], weights: Mapping[str, float]) -> tuple[F32, F32]:
    """Scores and predicted seconds `[B, C]`."""
    fused = (EXPECTED_WATCH_TIME,) if EXPECTED_WATCH_TIME in weights else ()
    found = bundle.run_ranker(inputs, ("watch_time_s", OBJECTIVES, *fused))
    outputs: dict[str, F32] = {name: _finite(x) for name, x in found.items()}
    watch_time_s_BC = outputs["watch_time_s"]
    values = dict(zip(bundle.manifest.objectives, np.moveaxis(outputs[OBJECTIVES], -1, 0), strict=True))
    values |= {name: outputs[name] for name in fused}
    score, _ = fuse({name: value_BC.ravel() for name, value_BC in values.items()}, weights)
    return np.reshape(score, watch_time_s_BC.shape), watch_time_s_BC


def _finite(x: Array) -> F32:
    return np.nan_to_num(x.astype(np.float32, copy=False), nan=0.0, posinf=0.0, neginf=0.0)
