"""How often a difference is found between arms that get the same."""

# Shape suffixes: U users, T days, R replays, C covariates.

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from models.arrays import F64, Bools
from training.ab_tests import ArmDifference, ArmMean, arm_difference, cuped, linearised, pre_period
from training.experiments.validation.planted_users import BEFORE_DAYS, DAYS, draw_users

ALPHA: Final = 0.05
SMALLEST_EFFECT: Final = 0.1
"""Relative, for always-valid intervals: about what some thousand users can find."""


def equal_arms(
    *, users: int, replays: int, seed: int = 0, on_progress: Callable[[float], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Split the same users at random again and again, and look every day.

    Args:
        users: of both arms together.
        replays: how often.
        seed: of users and splits.
        on_progress: called with the finished share.

    Returns:
        Per metric and adjustment the share of replays that differ at the end (`fixed_horizon`), at any look
        by fixed-horizon intervals (`any_look`), at any look by always-valid ones (`always_valid`), the last
        two up to each day (`any_look_by_day`, `always_valid_by_day`), the share of the variance that CUPED
        removed (`variance_removed`), and the variance of the final differences over the replays
        (`variance_of_difference`).
    """
    random = np.random.default_rng(seed)
    planted = draw_users(users, BEFORE_DAYS + DAYS, random)
    metrics = {
        "watch time a user": (planted.watch_time_s, None),
        "skip rate": (planted.skips, planted.exposures),
    }
    arms_RU = np.stack([random.permutation(users) < users // 2 for _ in range(replays)])
    rows = []
    for n, (metric, (numerator_UT, denominator_UT)) in enumerate(metrics.items()):
        looks_UT, before_UC = _looks(numerator_UT, denominator_UT)
        for m, covariates_UC in enumerate((None, before_UC)):
            found = []
            for r, arm_U in enumerate(arms_RU):
                found.append(_read_daily(looks_UT, covariates_UC, arm_U))
                on_progress((n + (m + (r + 1) / replays) / 2) / len(metrics))
            rows.append(
                {"metric": metric, "cuped": covariates_UC is not None}
                | _shares([looks for looks, _ in found])
                | {"variance_removed": float(np.mean([removed for _, removed in found]))}
            )
    return rows


def _looks(numerator_UT: F64, denominator_UT: F64 | None) -> tuple[F64, F64]:
    """Return the linear parts of the metric up to each day of the experiment, and the covariates."""
    parts = [numerator_UT] if denominator_UT is None else [numerator_UT, denominator_UT]
    before = [part[:, :BEFORE_DAYS].sum(axis=1) for part in parts]
    during = [part[:, BEFORE_DAYS:].cumsum(axis=1) for part in parts]
    looks_UT = np.stack([linearised(*(part[:, day] for part in during))[1] for day in range(DAYS)], axis=1)
    return looks_UT, pre_period(linearised(*before)[1], np.zeros(len(looks_UT)))


def _read_daily(looks_UT: F64, covariates_UC: F64 | None, arm_U: Bools) -> tuple[list[ArmDifference], float]:
    """Compare the arms on each day, and return the share of the variance that was removed on the last."""
    parts = {"A": arm_U, "B": ~arm_U}
    found, removed = [], 0.0
    for look_U in looks_UT.T:
        outcome = {name: look_U[part] for name, part in parts.items()}
        if covariates_UC is None:
            arms = {
                name: ArmMean(float(x.mean()), float(x.std(ddof=1)), len(x)) for name, x in outcome.items()
            }
        else:
            arms, removed = cuped(outcome, {name: covariates_UC[part] for name, part in parts.items()})
        found.append(arm_difference(arms["A"], arms["B"], alpha=ALPHA, smallest_effect=SMALLEST_EFFECT))
    return found, removed


def _shares(replays: list[list[ArmDifference]]) -> dict[str, Any]:
    p_RT = np.array([[look.p_value for look in looks] for looks in replays])
    excluded_RT = np.array(
        [[not _holds_0(look.always_valid_interval) for look in looks] for looks in replays]
    )
    any_RT, always_RT = (
        np.logical_or.accumulate(p_RT < ALPHA, axis=1),
        np.logical_or.accumulate(excluded_RT, axis=1),
    )
    return {
        "fixed_horizon": float((p_RT[:, -1] < ALPHA).mean()),
        "any_look": float(any_RT[:, -1].mean()),
        "always_valid": float(always_RT[:, -1].mean()),
        "any_look_by_day": any_RT.mean(axis=0).tolist(),
        "always_valid_by_day": always_RT.mean(axis=0).tolist(),
        "variance_of_difference": float(np.var([looks[-1].difference for looks in replays])),
    }


def _holds_0(interval: tuple[float, float]) -> bool:
    return interval[0] <= 0 <= interval[1]
