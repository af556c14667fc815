"""How far a predicted distribution of watch time is from what was watched: proper scores."""

# Shape suffixes: N rows, K values of a distribution.

from __future__ import annotations

import numpy as np

from models.arrays import F32, F64
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
