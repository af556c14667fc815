"""Simulated users of an experiment: seconds watched, exposures and skips of every day."""

# Shape suffixes: U users, T days.

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from models.arrays import F64

DAYS: Final = 14
BEFORE_DAYS: Final = 7
COEFFICIENT_OF_VARIATION: Final = 1.73
"""Of seconds a user in fourteen days."""
_HABIT: Final = 1.118
"""Deviation of the logarithm of a user's habit, which with the days' variation makes that coefficient."""
_DAY: Final = 0.5
"""Shape of the gamma distribution of a day."""


class PlantedUsers(NamedTuple):
    """Sums of every user and day, `[U, T]` each."""

    watch_time_s: F64
    exposures: F64
    skips: F64


def draw_users(users: int, days: int, random: np.random.Generator) -> PlantedUsers:
    """Draw users who differ for good in how much they watch and how often they skip, days within users."""
    habit_U1 = _habits(users, random)[:, None]
    skip_rate_U1 = random.beta(2, 5, (users, 1))
    day_UT = random.gamma(_DAY, 1 / _DAY, (users, days))
    exposures_UT = random.poisson(np.minimum(habit_U1 * day_UT / 10, 1e4))
    return PlantedUsers(
        habit_U1 * day_UT,
        exposures_UT.astype(np.float64),
        random.binomial(exposures_UT, np.broadcast_to(skip_rate_U1, exposures_UT.shape)).astype(np.float64),
    )


def draw_watch_times(users: int, random: np.random.Generator) -> tuple[F64, F64]:
    """Draw each user's seconds before the start and during the experiment, distributed as sums of days."""
    habit_U = _habits(users, random)
    before_U, during_U = (
        habit_U * random.gamma(_DAY * days, 1 / _DAY, users) for days in (BEFORE_DAYS, DAYS)
    )
    return before_U, during_U


def _habits(users: int, random: np.random.Generator) -> F64:
    """Seconds a day, `[U]`."""
    return random.lognormal(4.0, _HABIT, users)
