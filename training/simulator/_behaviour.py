"""What a user does at one exposure, given the interest in it: watch time and flags."""

from __future__ import annotations

from typing import Final

import numpy as np
from pydantic import BaseModel, ConfigDict

from models.arrays import F64, I64, Bools
from models.schema import FLAGS

# Shape suffixes: N exposures, F flags.

SKIP: Final = 0
PART: Final = 1
COMPLETE: Final = 2
REPLAY: Final = 3


class BehaviourConfig(BaseModel):
    """How interest becomes behaviour."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    interest_scale: float = 2.5
    """Spread of logit ρ over pairs of user and video."""
    watch_scale_s: float = 12.0
    """`c` of the counterfactual watch time; 16 s at ρ = 0.5."""
    watch_noise: float = 0.35
    """Standard deviation of the log of the multiplicative noise of the watch time."""
    skip_s: float = 1.5
    """Mean watch time of a skip."""
    skip_base: float = 0.35
    """Probability of a skip at ρ = 0.5; it decreases with ρ."""
    hurried_sessions: float = 0.2
    """Share of sessions with skips that are independent of interest."""
    hurried_skip: float = 0.6
    """Probability of such a skip at each exposure of a hurried session."""
    replay: float = 0.35
    """Probability that a completed video loops, at ρ near 1."""

    rates: dict[str, float] = {
        "like": 0.03,
        "follow": 0.012,
        "comment": 0.015,
        "forward": 0.01,
        "hate": 0.005,
        "profile_enter": 0.02,
    }
    """Expected share of rows with a flag."""
    explicit_slope: float = 1.5
    """`a` of P(flag) = σ(a logit ρ - b); negative for `hate`. `b` is solved for `rates`."""


def interest_of(config: BehaviourConfig, affinity: F64) -> F64:
    """Compute ρ = σ(scale * affinity), clipped to (0.01, 0.99) so that w_c stays finite.

    Args:
        config: its `interest_scale`.
        affinity: ⟨p_u, q_i⟩ / √D, of any shape.
    """
    out: F64 = np.clip(1.0 / (1.0 + np.exp(-config.interest_scale * affinity)), 0.01, 0.99)
    return out


def draw_watch(
    config: BehaviourConfig, behaviour: F64, duration: F64, hurried: Bools, rng: np.random.Generator
) -> tuple[F64, I64, F64]:
    """Draw counterfactual watch time, watch state and observed watch time, all `[N]`.

    Args:
        config: of the behaviour.
        behaviour: `[N]` the interest that it follows, in (0, 1).
        duration: `[N]` seconds.
        hurried: `[N]` whether it happens in a hurried session.
        rng: of all draws.
    """
    rows = len(behaviour)
    noise = np.exp(config.watch_noise * rng.normal(size=rows))
    counterfactual = np.maximum((config.watch_scale_s / -np.log(behaviour) - 1.0) * noise, 0.1)
    odds = np.log(config.skip_base / (1 - config.skip_base)) - np.log(behaviour / (1 - behaviour))
    skip = rng.random(rows) < 1.0 / (1.0 + np.exp(-odds))
    skip |= hurried & (rng.random(rows) < config.hurried_skip)
    complete = ~skip & (counterfactual >= duration)
    replay = complete & (rng.random(rows) < config.replay * behaviour)

    watch = np.minimum(counterfactual, duration)
    watch = np.where(skip, np.minimum(rng.exponential(config.skip_s, size=rows), duration), watch)
    loops = np.where(rng.random(rows) < 0.75, 2.0, 3.0) * np.exp(0.02 * rng.normal(size=rows))
    watch = np.where(replay, loops * duration, watch).round(3)
    state = np.select([skip, replay, complete], [SKIP, REPLAY, COMPLETE], PART).astype(np.int64)
    return counterfactual, state, watch


def flag_thresholds(config: BehaviourConfig, behaviour: F64) -> F64:
    """Solve for `b` of P(flag) = σ(a logit ρ - b), `[F]`, such that the mean over `behaviour` is the rate."""
    logit = np.log(behaviour / (1 - behaviour))
    out = np.empty(len(FLAGS))
    for f, (name, slope) in enumerate(zip(FLAGS, _slopes(config), strict=True)):
        low, high = -30.0, 30.0
        for _ in range(60):
            b = (low + high) / 2
            mean = float(np.mean(1.0 / (1.0 + np.exp(b - slope * logit))))
            low, high = (b, high) if mean > config.rates[name] else (low, b)
        out[f] = b
    return out


def draw_flags(config: BehaviourConfig, behaviour: F64, thresholds: F64, rng: np.random.Generator) -> Bools:
    """Draw flags `[N, F]` in the order of `FLAGS`, each with the probability σ(a logit ρ - b)."""
    logit = np.log(behaviour / (1 - behaviour))
    columns = [
        rng.random(len(behaviour)) < 1.0 / (1.0 + np.exp(b - slope * logit))
        for b, slope in zip(thresholds, _slopes(config), strict=True)
    ]
    return np.stack(columns, axis=1)


def _slopes(config: BehaviourConfig) -> list[float]:
    return [-config.explicit_slope if name == "hate" else config.explicit_slope for name in FLAGS]
