"""The difference between two arms, absolute and relative, for one look and for a look every day."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

from training.ab_tests._always_valid import always_valid_half_width
from training.ab_tests._arm_mean import ArmMean

SMALLEST_EFFECT: Final = 0.01
"""Relative difference that one would not like to miss: the mixing deviation of always-valid intervals."""
_NORMAL: Final = NormalDist()

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class ArmDifference:
    """Treatment minus control in one metric."""

    difference: float
    interval: Interval
    """For one look at a time that was fixed before."""
    always_valid_interval: Interval
    """For any number of looks."""
    p_value: float
    """Two-sided, for one look."""
    relative: float | None
    """As a share of the control's value; nothing where that is not positive."""
    relative_interval: Interval | None
    always_valid_relative_interval: Interval | None


def arm_difference(
    control: ArmMean,
    treatment: ArmMean,
    *,
    alpha: float = 0.05,
    smallest_effect: float = SMALLEST_EFFECT,
) -> ArmDifference:
    """Compare two arms by normal approximations, which hundreds of users an arm allow.

        Δ = R_B - R_A                  s² = s_A² + s_B²
        Δ_rel = R_B / R_A - 1          s_rel² = (s_B² + (R_B / R_A)² s_A²) / R_A²   (delta method)

    Args:
        control, treatment: A and B.
        alpha: probability with which intervals may miss the truth.
        smallest_effect: relative difference that one would not like to miss, fixed before the first look.
    """
    z = _NORMAL.inv_cdf(1 - alpha / 2)
    difference = treatment.value - control.value
    error = math.hypot(treatment.standard_error, control.standard_error)
    always = always_valid_half_width(error, smallest_effect * abs(control.value), alpha)
    relative = relative_interval = always_valid_relative_interval = None
    if control.value > 0:
        ratio = treatment.value / control.value
        relative = ratio - 1
        relative_error = math.hypot(treatment.standard_error, ratio * control.standard_error) / control.value
        relative_interval = _around(relative, z * relative_error)
        half_width = always_valid_half_width(relative_error, smallest_effect, alpha)
        always_valid_relative_interval = _around(relative, half_width)
    return ArmDifference(
        difference=difference,
        interval=_around(difference, z * error),
        always_valid_interval=_around(difference, always),
        p_value=2 * _NORMAL.cdf(-abs(difference) / error) if error > 0 else float(difference == 0),
        relative=relative,
        relative_interval=relative_interval,
        always_valid_relative_interval=always_valid_relative_interval,
    )


def _around(value: float, half_width: float) -> Interval:
    return value - half_width, value + half_width
