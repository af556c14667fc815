"""A surrogate index: the expected outcome that one waits for, given the signals that come at once."""

# Shape suffixes: N rows, O outcomes, F features.

from __future__ import annotations

from typing import Any, Final

import numpy as np

from models.arrays import F32, F64, I64, Bools
from models.errors import BadInput
from training.data import Interactions, returned_next_day

_FOLDS: Final = 2
_BINS: Final = 100
"""Equally many rows each, among which predictions are calibrated."""
_PARAMETERS: Final = {
    "objective": "regression",
    "learning_rate": 0.1,
    "num_leaves": 15,
    "min_data_in_leaf": 100,
    "verbose": -1,
    "num_threads": 1,
}
_ROUNDS: Final = 60


def surrogate_index(log: Interactions, day_N: I64, *, seed: int) -> F32:
    """Return `[N]` E[(net feedback)/σ + (return the next day)/σ | w, d, w/d] of each row, cross-fitted.

    The users are halved; each half is predicted by boosted trees fitted to the other, and the predictions
    are calibrated by the mean outcome of their hundredths. The last day's rows do not know whether their
    user returned and are not fitted to.

    Source: Athey, Chetty, Imbens and Kang, "The Surrogate Index", 2019. The signals are what every exposure
    has; outcomes are divided by their deviations, so that neither drowns the other.

    Raises:
        BadInput: no feedback and no return is known, or LightGBM is not installed.
    """
    try:
        import lightgbm
    except ImportError as e:
        raise BadInput("LightGBM is not installed; pip install lightgbm and run it again.") from e
    outcome_NO, known_N = _outcomes(log, day_N)
    if not known_N.any() or not np.ptp(outcome_NO[known_N], axis=0).any():
        raise BadInput("no user gave feedback or returned the next day, so there is no outcome to expect.")
    watched, duration = log.watch_time_s.astype(np.float64), log.duration_s.astype(np.float64)
    feature_NF = np.stack([np.log1p(watched), np.log1p(duration), watched / duration], axis=1)
    _, user_N = np.unique(log.user, return_inverse=True)
    fold_N = np.random.default_rng(seed).permutation(user_N.max() + 1)[user_N] % _FOLDS
    index_N: F32 = np.zeros(len(log), np.float32)
    for fold in range(_FOLDS):
        fit, predict = (fold_N != fold) & known_N, fold_N == fold
        if not fit.any():
            raise BadInput("the surrogate index needs two users with an outcome each; take a longer log.")
        deviation_O = outcome_NO[fit].std(axis=0)
        outcome_N = (outcome_NO / np.where(deviation_O > 0, deviation_O, 1.0)).sum(axis=1)
        booster: Any = lightgbm.train(
            _PARAMETERS | {"seed": seed}, lightgbm.Dataset(feature_NF[fit], outcome_N[fit]), _ROUNDS
        )
        raw_N = np.asarray(booster.predict(feature_NF, num_threads=1), np.float64)
        index_N[predict] = _calibrated(raw_N[fit], outcome_N[fit], raw_N[predict])
    return index_N


def _outcomes(log: Interactions, day_N: I64) -> tuple[F64, Bools]:
    """Return `[N, 2]` net feedback and return the next day, and which rows know the latter."""
    returned_N = returned_next_day(log.user, day_N)
    net_N = log.explicit.astype(np.float64) - log.hate
    return np.stack([net_N, np.nan_to_num(returned_N)], axis=1), np.isfinite(returned_N)


def _calibrated(raw_N: F64, outcome_N: F64, wanted_M: F64) -> F64:
    """Return predictions replaced by the mean outcome of rows predicted alike, between bins linearly."""
    order = np.array_split(np.argsort(raw_N, kind="stable"), min(_BINS, len(raw_N)))
    centre, mean = (np.array([column[part].mean() for part in order]) for column in (raw_N, outcome_N))
    centre, first = np.unique(centre, return_index=True)
    out: F64 = np.interp(wanted_M, centre, np.maximum.accumulate(mean[first]))
    return out
