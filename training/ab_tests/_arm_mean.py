"""A metric of one arm's users: the value and its standard error."""

# Shape suffixes: U users of one arm.

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from models.arrays import F64


class ArmMean(NamedTuple):
    """One metric of one arm."""

    value: float
    deviation: float
    """Standard deviation over users, of a ratio that of its linear part."""
    users: int

    @property
    def standard_error(self) -> float:
        """Of the value."""
        return self.deviation / math.sqrt(self.users)


def arm_mean(numerator_U: F64, denominator_U: F64 | None = None) -> ArmMean:
    """Return a mean over users, or a ratio of two sums over users by the delta method.

        R = Σ_u a_u / Σ_u b_u        L_u = R + (a_u - R b_u) / mean(b)

    Users are what was randomised, so variances are over users, never over their exposures.

    Args:
        numerator_U: a: each user's sum, such as seconds watched or skips.
        denominator_U: b, such as exposures; by default 1, which makes R the mean over users.

    Source: Deng, Knoblich & Lu, "Applying the delta method in metric analytics", KDD 2018.
    """
    ratio, linear_U = linearised(numerator_U, denominator_U)
    return ArmMean(ratio, float(linear_U.std(ddof=1)), len(linear_U))


def linearised(numerator_U: F64, denominator_U: F64 | None = None) -> tuple[float, F64]:
    """Return R and the users' L of `arm_mean`, whose mean is R; a ratio without any denominator is 0."""
    if denominator_U is None:
        return float(numerator_U.mean()), numerator_U
    total = float(denominator_U.sum())
    if total == 0:
        return 0.0, np.zeros_like(numerator_U)
    ratio = float(numerator_U.sum()) / total
    return ratio, ratio + (numerator_U - ratio * denominator_U) * (len(denominator_U) / total)
