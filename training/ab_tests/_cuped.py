"""CUPED: what users did before the experiment removes variance from what they did during it."""

# Shape suffixes: U users of one arm, C covariates.

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from models.arrays import F64
from training.ab_tests._arm_mean import ArmMean


class Adjusted(NamedTuple):
    """Arms after the adjustment."""

    arms: dict[str, ArmMean]
    variance_removed: float
    """Share of the variance within arms, ρ² of the outcome and its best linear prediction."""


def cuped(outcome: Mapping[str, F64], covariates: Mapping[str, F64]) -> Adjusted:
    """Subtract what a linear regression on covariates from before the experiment predicts.

        Y' = Y - θᵀ (X - X̄)        θ = cov(X)⁻¹ cov(X, Y) within arms,  X̄ over all arms

    No arm can have changed X, so that the expected difference of the arms stays as it is.

    Args:
        outcome: by arm `[U]`, of `linearised`.
        covariates: by arm `[U, C]`, of `pre_period`.

    Source: Deng, Xu, Kohavi & Walker, WSDM 2013.
    """
    center_C = np.concatenate(list(covariates.values())).mean(axis=0)
    within_UC = np.concatenate([x_UC - x_UC.mean(axis=0) for x_UC in covariates.values()])
    within_U = np.concatenate([outcome[arm] - outcome[arm].mean() for arm in covariates])
    theta_C, *_ = np.linalg.lstsq(within_UC, within_U)
    arms = {}
    for arm, x_UC in covariates.items():
        adjusted_U = outcome[arm] - (x_UC - center_C) @ theta_C
        arms[arm] = ArmMean(float(adjusted_U.mean()), float(adjusted_U.std(ddof=1)), len(adjusted_U))
    variance = float(within_U.var())
    left = float((within_U - within_UC @ theta_C).var())
    return Adjusted(arms, 1 - left / variance if variance > 0 else 0.0)


def pre_period(before_U: F64, is_new_U: F64) -> F64:
    """Return the covariates of users: the metric before the start, 0 for new users, and whether one is new.

    Args:
        before_U: the same metric before the experiment; ignored for new users.
        is_new_U: 1 for users without exposures before the experiment, else 0.
    """
    return np.stack([np.where(is_new_U > 0, 0.0, before_U), is_new_U], axis=1)
