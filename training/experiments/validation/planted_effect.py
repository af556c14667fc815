"""How often a planted effect is found at the number of users that `users_per_arm` names for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from training.ab_tests import arm_difference, arm_mean, cuped, pre_period, users_per_arm
from training.experiments.validation.planted_users import draw_watch_times

_PILOT: Final = 2_000_000
"""Users from whom the coefficient of variation is read off."""


def planted_effect(
    effect: float, *, replays: int, seed: int = 0, on_progress: Callable[[float], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Plant a relative effect in watch time, and look for it once, without and with CUPED.

    Args:
        effect: relative.
        replays: how often, each time among other users.
        seed: of the users.
        on_progress: called with the finished share.

    Returns:
        Without and with CUPED the coefficient of variation, the users an arm, and the share of the replays in
        which the effect was found (`power`).
    """
    random = np.random.default_rng(seed)
    before, during = draw_watch_times(_PILOT, random)
    plain = arm_mean(during)
    covariates = pre_period(before, np.zeros(_PILOT))
    adjusted = cuped({"all": during}, {"all": covariates}).arms["all"]
    rows = []
    for n, one in enumerate((plain, adjusted)):
        variation = one.deviation / plain.value
        users = users_per_arm(effect, variation)
        found = 0
        for replay in range(replays):
            found += _is_found(effect, users, with_cuped=one is adjusted, random=random)
            on_progress((n + (replay + 1) / replays) / 2)
        rows.append(
            {
                "cuped": one is adjusted,
                "effect": effect,
                "coefficient_of_variation": variation,
                "users_per_arm": users,
                "power": found / replays,
            }
        )
    return rows


def _is_found(effect: float, users: int, *, with_cuped: bool, random: np.random.Generator) -> bool:
    past, outcome = {}, {}
    for arm, factor in (("control", 1.0), ("treatment", 1.0 + effect)):
        before, during = draw_watch_times(users, random)
        past[arm], outcome[arm] = pre_period(before, np.zeros(users)), during * factor
    if with_cuped:
        arms = cuped(outcome, past).arms
    else:
        arms = {arm: arm_mean(during) for arm, during in outcome.items()}
    return arm_difference(arms["control"], arms["treatment"]).p_value < 0.05
