"""The value of a bundle on the slates of a log: every estimator, beside what the log has earned."""

# Shape suffixes: N slates, K positions, M candidates, F features.

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import polars as pl

from models.arrays import F64
from models.errors import BadInput
from models.fusion import fuse
from models.runtime import Bundle
from training.data.readers import served_exposures
from training.off_policy import (
    Overlap,
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
from training.served_estimates.explored_slates import ExploredSlates
from training.served_estimates.slate_predictions import SlatePredictions

HEADLINE: Final = "DR, position-based"
BOUND: Final = 20.0
"""Of clipped weights, and of the switch."""
POSITIONS: Final = 10
LEAST_KNOWN: Final = 0.99
"""Share of candidates with known facts. Events have the facts of what was shown: with fewer, scores would
depend on what was shown, and estimates would be biased."""
TOLERANCE: Final = 0.05
"""Relative difference of the propensities of a slate between log and estimate that rounded scores explain."""


def estimate_bundle(
    log: Path,
    bundle: Bundle,
    weights: Mapping[str, float] | None = None,
    *,
    videos: pl.DataFrame | None = None,
    reward: str = "watch_time_s",
    positions: int = POSITIONS,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda _: None,
) -> dict[str, Any]:
    """Estimate what a bundle would have earned on the explored slates of a served log.

    The bundle is taken to explore as the log did: Plackett-Luce over its own scores with the same temperature
    and epsilon.

    Args:
        log: the folder that the service wrote as `REELRANK_LOG_DIR`.
        bundle: to estimate.
        weights: of the score; by default the bundle's.
        videos: facts of candidates, see `SlatePredictions`.
        reward: one of `REWARDS`, summed over the slate's positions.
        positions: the first ones of each slate that count.
        seed: of draws and resamples.
        on_progress: called with the share of the slates that the bundle has scored.

    Returns:
        `method`, `value`, `interval`, `effective_sample_size`; the `overlap`, and in words why the log cannot
        answer (`refused`, then value and interval are `None`); per estimator value, interval and difference
        to what the log has earned (`estimates`, `logged`); what was estimated from.

    Raises:
        BadInput: the log holds no explored slate, or no event that names one; too few candidates have known
            facts; or unknown weights or reward.
    """
    explored, exposures = ExploredSlates.read(log), served_exposures(log)
    positions = min(positions, max(len(slate.propensity) for slate in explored.slates))
    reward_NK = explored.rewards(exposures, reward, positions, bundle)
    predictions = SlatePredictions(bundle, exposures, videos)
    known_candidates = predictions.known_candidates(explored.slates)
    if known_candidates < LEAST_KNOWN:
        raise BadInput(
            f"the durations, authors and tags of only {known_candidates:.0%} of the candidates are known, "
            f"{LEAST_KNOWN:.0%} are needed: those that were shown would be scored otherwise than those that "
            "were not. Give the facts of all candidates (--videos)."
        )
    weights = bundle.manifest.weights if weights is None else weights
    scores, features = [], []
    for n, slate in enumerate(explored.slates, 1):
        predicted_MT = predictions.predict(slate)
        columns = dict(zip(predictions.names, predicted_MT.T, strict=True))
        scores.append(fuse(columns, weights)[0].tolist())
        features.append(predicted_MT)
        on_progress(n / len(explored.slates))

    logging = explored.policy([slate.score for slate in explored.slates])
    target = explored.policy(scores)
    order_NK, logged_NK = explored.orders(positions), explored.propensities(positions)
    _refuse_other_propensities(logging.propensities(order_NK), logged_NK)
    logging_NKM = logging.marginals(positions, seed=seed)
    target_NKM = target.marginals(positions, seed=seed)
    shown_NK = order_NK >= 0

    def at_shown(value_NKM: F64, beyond: float) -> F64:
        taken_NK = np.take_along_axis(value_NKM, order_NK[..., None], axis=2)[..., 0]
        return np.where(shown_NK, taken_NK, beyond)

    position_NK = position_weights(at_shown(target_NKM, 1.0), at_shown(logging_NKM, 1.0))
    cascade_NK = cascade_weights(target.propensities(order_NK), logged_NK)
    features_NMF = np.zeros((*target.score.shape, len(predictions.names)))
    for row, feature in zip(features_NMF, features, strict=True):
        row[: len(feature)] = feature
    features_NKF = np.take_along_axis(features_NMF, order_NK[..., None], axis=1)
    predicted_NKM = RewardModel.fit(features_NKF, reward_NK, explored.users, seed=seed).predict(features_NMF)
    predicted_NK = at_shown(predicted_NKM, 0.0)
    expected_NK = np.where(shown_NK, (target_NKM * predicted_NKM).sum(axis=2), 0.0)
    terms = {
        "IPS, position-based": ips(reward_NK, position_NK),
        "IPS, position-based, clipped": ips(reward_NK, clipped(position_NK, BOUND)),
        "SNIPS, position-based": snips(reward_NK, position_NK),
        HEADLINE: doubly_robust(reward_NK, position_NK, predicted_NK, expected_NK),
        "switch-DR, position-based": switch_doubly_robust(
            reward_NK, position_NK, predicted_NK, expected_NK, BOUND
        ),
        "SNIPS, cascade": snips(reward_NK, cascade_NK),
        "DR, cascade": doubly_robust(reward_NK, cascade_NK, predicted_NK, expected_NK),
    }
    overlap = Overlap.of_weights(position_NK, support(target_NKM, logging_NKM))
    plain = ips(reward_NK, np.ones_like(reward_NK))
    logged = estimate(plain, explored.users, seed=seed)
    rows = [] if overlap.refusal else _rows(terms, plain, explored, seed)
    headline = next((row for row in rows if row["method"] == HEADLINE), None)
    return {
        "method": HEADLINE,
        "value": None if headline is None else headline["value"],
        "interval": None if headline is None else headline["interval"],
        "effective_sample_size": overlap.effective_sample_size,
        "refused": overlap.refusal,
        "overlap": asdict(overlap)
        | {"cascade_effective_sample_size": Overlap.of_weights(cascade_NK, 1.0).effective_sample_size},
        "logged": {"value": logged.value, "interval": list(logged.interval)},
        "estimates": rows,
        "reward": reward,
        "positions": positions,
        "bundle": bundle.manifest.version,
        "weights": dict(weights),
        "exploration": {"temperature": explored.temperature, "epsilon": explored.epsilon},
        "slates": len(explored.slates),
        "users": len(np.unique(explored.users)),
        "left_out": explored.left_out,
        "whole_histories": float(np.mean([*map(predictions.has_whole_history, explored.slates)])),
        "known_candidates": known_candidates,
    }


def _rows(
    terms: Mapping[str, Terms], plain: Terms, explored: ExploredSlates, seed: int
) -> list[dict[str, Any]]:
    rows = []
    for method, one in terms.items():
        found = estimate(one, explored.users, seed=seed)
        gain = estimate(one - plain, explored.users, seed=seed)
        rows.append(
            {
                "method": method,
                "value": found.value,
                "interval": list(found.interval),
                "difference": gain.value,
                "difference_interval": list(gain.interval),
            }
        )
    return rows


def _refuse_other_propensities(found_NK: F64, logged_NK: F64) -> None:
    """Refuse a log whose propensities are not those of its scores: something else has chosen the slates."""
    off = np.abs(np.cumprod(found_NK, axis=1) / np.cumprod(logged_NK, axis=1) - 1).max(axis=1) > TOLERANCE
    if off.mean() > 0.01:
        raise BadInput(
            f"the propensities of {off.mean():.0%} of the slates are not those of their scores; were slates "
            "reordered after the ranking? Estimate from slates that were shown as they were logged."
        )
