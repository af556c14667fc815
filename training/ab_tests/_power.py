"""How many users and days an experiment needs."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final

from training.ab_tests._arm_mean import ArmMean

POWER: Final = 0.8


def users_per_arm(
    effect: float, coefficient_of_variation: float, *, alpha: float = 0.05, power: float = POWER
) -> int:
    """Return how many users each of two arms needs to find a relative effect.

        n = 2 (z_{1 - α/2} + z_power)² (σ / μ)² / δ²

    Args:
        effect: δ, relative to the control's value.
        coefficient_of_variation: σ / μ over users, after CUPED if that is used.
        alpha, power: of the two-sided test.
    """
    return math.ceil(2 * (_z(alpha, power) * coefficient_of_variation / effect) ** 2)


def detectable_effect(control: ArmMean, treatment: ArmMean, *, alpha: float = 0.05) -> float:
    """Return the relative effect that an experiment of these sizes finds with a probability of .8."""
    error = math.hypot(control.standard_error, treatment.standard_error)
    return _z(alpha, POWER) * error / abs(control.value) if control.value else math.inf


def days_needed(wanted: int, users: int, days: float, new_users_a_day: float) -> float | None:
    """Return after how many days an arm has enough users, if new ones keep coming.

    Args:
        wanted: users that an arm needs.
        users: of the arm so far.
        days: since the start.
        new_users_a_day: who come to the arm for the first time.

    Returns:
        Days since the start, or nothing if no new users come: more days of the same users do not help.
    """
    if wanted <= users:
        return days
    return days + (wanted - users) / new_users_a_day if new_users_a_day > 0 else None


def _z(alpha: float, power: float) -> float:
    normal = NormalDist()
    return normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)
