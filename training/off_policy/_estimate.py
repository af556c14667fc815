"""An estimate with its interval: users are resampled, since the slates of one user are alike."""

# Shape suffixes: N logged slates, K positions, U users, R resamples.

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from models.arrays import F64, I64
from training.evaluation.bootstrap import draws
from training.off_policy._terms import Terms

RESAMPLES: Final = 1000


class Estimate(NamedTuple):
    """The value of a policy, per slate."""

    value: float
    interval: tuple[float, float]
    """95 % percentile bootstrap interval over users."""


def estimate(terms: Terms, user_N: I64, *, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Sum an estimator's terms, and again over users drawn with replacement.

    Args:
        terms: what an estimator returns.
        user_N: whom each slate was shown to.
        resamples, seed: of the bootstrap.

    Source: Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    users, index_N = np.unique(user_N, return_inverse=True)
    numerator_UK = _user_sums(terms.numerator, index_N, len(users))
    denominator_UK = _user_sums(terms.denominator, index_N, len(users))
    drawn: list[F64] = []
    for drawn_RU in draws(len(users), resamples, np.random.default_rng(seed)):
        counts_RU = drawn_RU.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn.append(((counts_RU @ numerator_UK) / (counts_RU @ denominator_UK)).sum(axis=1))
    drawn_R = np.concatenate(drawn)
    # A resample without any weight at a position has no value.
    low, high = np.quantile(drawn_R[np.isfinite(drawn_R)], [0.025, 0.975])
    return Estimate(terms.value, (float(low), float(high)))


def _user_sums(value_NK: F64, index_N: I64, users: int) -> F64:
    return np.stack([np.bincount(index_N, column_N, users) for column_N in value_NK.T], axis=1)
