"""How often intervals of each estimator hold the planted value."""

# Shape suffixes: N slates, K positions, M candidates, F features.

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np

from training.experiments.validation.planted_slates import PlantedLog, PlantedSlates, shown_values
from training.off_policy import (
    Estimate,
    Overlap,
    PlackettLuce,
    RewardModel,
    Terms,
    cascade_weights,
    clipped,
    doubly_robust,
    estimate,
    ips,
    position_weights,
    snips,
    support,
    switch_doubly_robust,
)

CLIP: Final = 5.0
"""Bound of the clipped weights, and of the switch."""


def coverage(
    planted: PlantedSlates,
    *,
    logs: int,
    users: int,
    resamples: int,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda _: None,
) -> dict[str, dict[str, Any]]:
    """Estimate the target policy's value from many logs.

    Args:
        planted: the population.
        logs: how many.
        users: of each log.
        resamples: of each bootstrap.
        seed: of the first log; the next have the next ones.
        on_progress: called with the finished share.

    Returns:
        Per estimator the `coverage` of the truth, `bias`, standard deviation of the values (`deviation`), and
        mean half width of the intervals.
    """
    truth = planted.truth
    found: dict[str, list[Estimate]] = {}
    for n in range(logs):
        log = planted.log(users, seed + n)
        for name, terms in _estimators(planted, log):
            found.setdefault(name, []).append(estimate(terms, log.user, resamples=resamples, seed=seed + n))
        on_progress((n + 1) / logs)
    return {name: _summary(estimates, truth) for name, estimates in found.items()}


def overlap(planted: PlantedSlates, log: PlantedLog) -> Overlap:
    """Return the overlap of a planted log with the target policy, by the position-based weights."""
    target_NKM, logging_NKM = planted.target_marginals[log.slate], planted.logging_marginals[log.slate]
    weight_NK = position_weights(shown_values(target_NKM, log.order), shown_values(logging_NKM, log.order))
    return Overlap.of_weights(weight_NK, support(target_NKM, logging_NKM))


def _estimators(planted: PlantedSlates, log: PlantedLog) -> Iterator[tuple[str, Terms]]:
    reward_NK, order_NK = log.reward, log.order
    target_NKM, logging_NKM = planted.target_marginals[log.slate], planted.logging_marginals[log.slate]
    position_NK = position_weights(shown_values(target_NKM, order_NK), shown_values(logging_NKM, order_NK))
    policies = (
        PlackettLuce(policy.score[log.slate], policy.temperature, policy.epsilon)
        for policy in (planted.target, planted.logging)
    )
    cascade_NK = cascade_weights(*(policy.propensities(order_NK) for policy in policies))
    features_NMF = planted.features[log.slate]
    features_NKF = np.take_along_axis(features_NMF, order_NK[..., None], axis=1)
    predicted_NKM = RewardModel.fit(features_NKF, reward_NK, log.user).predict(features_NMF)
    predicted_NK, expected_NK = (
        shown_values(predicted_NKM, order_NK),
        (target_NKM * predicted_NKM).sum(axis=2),
    )
    for model, weight_NK in (("position", position_NK), ("cascade", cascade_NK)):
        yield f"IPS, {model}", ips(reward_NK, weight_NK)
        yield f"SNIPS, {model}", snips(reward_NK, weight_NK)
        yield f"DR, {model}", doubly_robust(reward_NK, weight_NK, predicted_NK, expected_NK)
    yield "IPS, position, clipped", ips(reward_NK, clipped(position_NK, CLIP))
    switched = switch_doubly_robust(reward_NK, position_NK, predicted_NK, expected_NK, CLIP)
    yield "switch-DR, position", switched


def _summary(estimates: list[Estimate], truth: float) -> dict[str, Any]:
    value = np.array([one.value for one in estimates])
    low, high = np.array([one.interval for one in estimates]).T
    return {
        "coverage": float(((low <= truth) & (truth <= high)).mean()),
        "bias": float(value.mean() - truth),
        "deviation": float(value.std(ddof=1)),
        "half_width": float((high - low).mean() / 2),
    }
