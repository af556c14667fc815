"""A ranker's predicted watch times beside those of simple predictors, user by user."""

# Shape suffixes: R test rows, U users.

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import numpy as np

from models.arrays import F32, F64, I64
from models.manifest import Comparison
from models.metrics import mae_s, rmse_s, xauc
from training.data import Interactions
from training.evaluation.bootstrap import paired_bootstrap
from training.evaluation.predict import Outputs
from training.evaluation.seconds import SecondsEvaluator

LEAST_USERS: Final = 20
"""Of the test days. The bootstrap over fewer is too sure of itself: over one user it always is."""
_PRIOR: Final = 5.0
"""Exposures of the overall mean that are added to those of each video: a rare one has no mean of its own."""
_FIGURES: Final[Mapping[str, Callable[[F32, F32], float | None]]] = {
    "mae_s": mae_s,
    "rmse_s": rmse_s,
    "xauc": xauc,
}


class _Pair(NamedTuple):
    baseline: str
    figure: str
    ranker: F32
    """`[R]` predicted seconds."""
    simple: F32


def compare_with_baselines(
    log: Interactions, rows: I64, before: I64, outputs: Outputs, trees_s: F32 | None = None
) -> tuple[Comparison, ...]:
    """Compare a ranker with what needs no ranker, on the days after those that all were fitted on.

    Each baseline is compared by the figure that it is made for: the median by MAE, the mean by RMSE,
    popularity by the order (XAUC), boosted trees by MAE and by the order. A difference is decided if its 95 %
    interval over users, by the paired bootstrap, is on one side of 0.

    Args:
        log: the exposures.
        rows: `[R]` test rows.
        before: rows of the earlier days.
        outputs: of the ranker on `rows`, each with its own history.
        trees_s: `[R]` seconds of boosted trees, where they were fitted.
    """
    watched = log.watch_time_s[before]
    point, expected = outputs.watch_time_s, outputs.watch_time_s
    if outputs.law is not None:
        expected = outputs.law.expected_watch_time_s
    every = np.ones(len(rows), np.float32)
    pairs = [
        _Pair("median", "mae_s", point, every * np.float32(np.median(watched))),
        _Pair("mean", "rmse_s", expected, every * watched.mean()),
        _Pair("popularity", "xauc", point, _mean_of_video(log, rows, before)),
    ]
    if trees_s is not None:
        pairs += [_Pair("trees", figure, point, trees_s) for figure in ("mae_s", "xauc")]
    evaluator = SecondsEvaluator(log, before, rows)
    found = (_compared(evaluator, pair) for pair in pairs)
    return tuple(comparison for comparison in found if comparison is not None)


def _mean_of_video(log: Interactions, rows: I64, before: I64) -> F32:
    """Return the mean watch time of each row's video in the earlier days; of unknown ones that of all."""
    video, watched = log.ids[:, 0], log.watch_time_s
    size = int(video.max()) + 1
    count = np.bincount(video[before], minlength=size)
    total = np.bincount(video[before], watched[before], minlength=size)
    mean = (total + _PRIOR * watched[before].mean()) / (count + _PRIOR)
    out: F32 = mean[video[rows]].astype(np.float32)
    return out


def _compared(evaluator: SecondsEvaluator, pair: _Pair) -> Comparison | None:
    """`None` where the figure is not defined on these rows."""
    ranker, simple = (
        _FIGURES[pair.figure](seconds, evaluator.watched) for seconds in (pair.ranker, pair.simple)
    )
    if ranker is None or simple is None:
        return None
    gain_U: F64 = (
        evaluator.values(pair.ranker, pair.ranker)[pair.figure]
        - evaluator.values(pair.simple, pair.simple)[pair.figure]
    )
    weight_U = evaluator.measures[pair.figure].weight
    margin = paired_bootstrap(gain_U[None], weight_U)[0]
    outcome = "undecided"
    if margin is not None and np.count_nonzero(weight_U) >= LEAST_USERS:
        outcome = "better" if margin.ci[0] > 0 else "worse" if margin.ci[1] < 0 else "undecided"
    return Comparison.model_validate(
        {
            "baseline": pair.baseline,
            "figure": pair.figure,
            "ranker": ranker,
            "simple": simple,
            "outcome": outcome,
        }
    )
