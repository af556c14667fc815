"""How far a predicted distribution of watch time is from what was watched: proper scores."""

# Shape suffixes: N rows, K values of a distribution.

from __future__ import annotations

from typing import Final

import numpy as np

from models.arrays import F32, F64
from models.metrics._calibration import ece
from models.metrics._labels import STATES, watch_states
from models.metrics._pointwise import rmse_s
from models.metrics._rows import Column, numbers


def row_crps(weight_NK: F32 | F64, value_s_NK: F32 | F64, watch_time_s: Column) -> F64:
    """Compute each row's continuous ranked probability score of a discrete distribution, in seconds.

        CRPS = Σ_k β_k |v_k - w| - ½ Σ_k Σ_l β_k β_l |v_k - v_l|

    Of a distribution with all its weight on one value it is that value's absolute error; it is least, in
    expectation, where the weights are the true ones. The double sum is Σ_k β_k v_k (B_{k-1} + B_k - 1) for
    ascending values with cumulative weights B.

    Args:
        weight_NK: `[N, K]` β, each row summing to 1.
        value_s_NK: `[N, K]` v in seconds, in any order.
        watch_time_s: `[N]` what was watched, in seconds.

    Returns:
        `[N]` seconds.

    Raises:
        BadInput: a value is not finite.

    Source: Gneiting & Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA 2007.
    """
    weight_NK, value_s_NK = weight_NK.astype(np.float64), value_s_NK.astype(np.float64)
    # A sum is finite only if all that it adds up is.
    watched, *_ = numbers(watch_time_s=watch_time_s, weight=weight_NK.sum(1), value_s=value_s_NK.sum(1))
    ascending_NK = np.argsort(value_s_NK, axis=1)
    weight_NK, value_s_NK = (np.take_along_axis(x, ascending_NK, 1) for x in (weight_NK, value_s_NK))
    cumulative_NK = weight_NK.cumsum(1)
    balance_NK = 2 * cumulative_NK - weight_NK - 1
    away_NK = np.abs(value_s_NK - watched[:, None]) - value_s_NK * balance_NK
    out: F64 = (weight_NK * away_NK).sum(1)
    return out


def crps(weight_NK: F32 | F64, value_s_NK: F32 | F64, watch_time_s: Column) -> float | None:
    """Compute the mean of `row_crps`, in seconds; `None` for N = 0. Arguments as there."""
    score_N = row_crps(weight_NK, value_s_NK, watch_time_s)
    return float(score_N.mean()) if score_N.size else None


def pinball(quantile_s: Column, watch_time_s: Column, level: float) -> float | None:
    """Compute the mean pinball loss of predicted quantiles in seconds, mean max(q (w - x), (q - 1) (w - x)).

    Least, in expectation, at the true quantile of `level` q; half the absolute error at q = ½.

    Args:
        quantile_s: `[N]` x, predicted quantiles in seconds.
        watch_time_s: `[N]` what was watched, in seconds.
        level: q, in (0, 1).

    Returns:
        Seconds; `None` for N = 0.

    Raises:
        BadInput: a value is not finite.
    """
    quantile, watched = numbers(quantile_s=quantile_s, watch_time_s=watch_time_s)
    over = watched - quantile
    return float(np.maximum(level * over, (level - 1) * over).mean()) if over.size else None


DURATIONS_S: Final = (0.0, 10.0, 20.0, 40.0, 80.0, 160.0)
"""Where the duration groups of `distribution_report` begin."""


def distribution_report(
    *,
    watch_time_s: Column,
    duration_s: Column,
    weight_NK: F32 | F64,
    value_s_NK: F32 | F64,
    quantile_s_N3: F32 | F64,
    expected_s: Column,
    state_N3: F32 | F64,
) -> dict[str, float | int | None]:
    """Evaluate predicted distributions of watch time on one window of a log.

    | key | meaning |
    | --- | --- |
    | `rmse_mean_s` | error of the predicted mean, seconds: what squared error is least at |
    | `bias_mean_s` | predicted mean minus watched, seconds |
    | `bias_mean_s.duration_20` | the same of videos of 20 s up to the next of `DURATIONS_S` |
    | `crps_s` | score of the whole distribution, see `crps` |
    | `pinball_p10_s`, `pinball_p50_s`, `pinball_p90_s` | scores of the quantiles, see `pinball` |
    | `coverage_p10_p90` | share of rows watched between the outer quantiles: 0.8 where they are right |
    | `ece_skip`, `ece_complete`, `ece_replay` | calibration errors of the watch states, see `ece` |

    Args:
        watch_time_s: `[N]` seconds watched, not clipped.
        duration_s: `[N]` lengths of the videos, seconds.
        weight_NK, value_s_NK: `[N, K]` the distribution, as in `crps`.
        quantile_s_N3: `[N, 3]` p10, p50 and p90, seconds.
        expected_s: `[N]` predicted means, seconds.
        state_N3: `[N, 3]` probabilities of `STATES`.

    Returns:
        The figures above; every key is there for any N, 0 included.

    Raises:
        ValueError: columns of different lengths.
        BadInput: a value is not finite.
    """
    watched, duration, expected = numbers(
        watch_time_s=watch_time_s, duration_s=duration_s, expected_s=expected_s
    )
    out: dict[str, float | int | None] = {
        "rmse_mean_s": rmse_s(expected, watched),
        "bias_mean_s": _mean(expected - watched),
        "crps_s": crps(weight_NK, value_s_NK, watched),
    }
    for column, percent in enumerate((10, 50, 90)):
        out[f"pinball_p{percent}_s"] = pinball(quantile_s_N3[:, column], watched, percent / 100)
    inside = (quantile_s_N3[:, 0] <= watched) & (watched <= quantile_s_N3[:, 2])
    out["coverage_p10_p90"] = _mean(inside.astype(np.float64))
    happened_N3 = watch_states(watched, duration)
    for column, name in enumerate(STATES):
        out[f"ece_{name}"] = ece(happened_N3[:, column], state_N3[:, column])
    group = np.searchsorted(DURATIONS_S, duration, side="right") - 1
    for index, start in enumerate(DURATIONS_S):
        out[f"bias_mean_s.duration_{start:.0f}"] = _mean((expected - watched)[group == index])
    return out


def _mean(values: F64) -> float | None:
    return float(values.mean()) if values.size else None
