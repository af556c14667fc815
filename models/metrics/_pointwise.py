"""How far predicted seconds are from watched seconds, row by row."""

from __future__ import annotations

import numpy as np

from models.metrics._rows import Column, numbers


def mae_s(predicted_s: Column, watch_time_s: Column) -> float | None:
    """Compute the mean absolute error in seconds, mean |ŵ - w|; neither side is clipped.

    Args:
        predicted_s: `[N]` predicted watch time in seconds.
        watch_time_s: `[N]` what was watched, in seconds.

    Returns:
        Seconds; `None` for N = 0.

    Raises:
        BadInput: a value is not finite.
    """
    predicted, watched = numbers(predicted_s=predicted_s, watch_time_s=watch_time_s)
    return float(np.abs(predicted - watched).mean()) if predicted.size else None


def mape(predicted_s: Column, watch_time_s: Column, least_s: float = 1.0) -> float | None:
    """Compute the mean absolute percentage error as a share, mean |ŵ - w| / w, over rows that were watched at
    least `least_s` seconds, since a skip would count for more than everything else; `None` without such rows.
    Other arguments as for `mae_s`."""
    predicted, watched = numbers(predicted_s=predicted_s, watch_time_s=watch_time_s)
    counted = watched >= least_s
    if not counted.any():
        return None
    return float((np.abs(predicted[counted] - watched[counted]) / watched[counted]).mean())


def rmse_s(predicted_s: Column, watch_time_s: Column) -> float | None:
    """Compute the root of the mean squared error in seconds, sqrt(mean (ŵ - w)²). Arguments as for
    `mae_s`."""
    predicted, watched = numbers(predicted_s=predicted_s, watch_time_s=watch_time_s)
    return float(np.sqrt(np.square(predicted - watched).mean())) if predicted.size else None
