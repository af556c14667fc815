"""Steps of the simulation: exposures, sessions, watch times, flags, timestamps."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import numpy as np

from models.arrays import F64, I64, Bools
from models.schema import FLAGS
from training.data.synthetic._config import SyntheticConfig

# Shape suffixes: N exposures, U users, V videos.


SKIP: Final = 0
PART: Final = 1
COMPLETE: Final = 2
REPLAY: Final = 3


def interest_of(config: SyntheticConfig, affinity: F64) -> F64:
    """Compute ρ = σ(scale * ⟨p_u, q_i⟩ / √D), clipped to (0.01, 0.99) so that w_c stays finite."""
    logit = config.interest_scale * affinity / np.sqrt(config.latent)
    out: F64 = np.clip(1.0 / (1.0 + np.exp(-logit)), 0.01, 0.99)
    return out


def draw_exposures(
    config: SyntheticConfig, affinity_UV: F64, popularity: F64, rng: np.random.Generator
) -> tuple[I64, I64]:
    """Sample exposures: each user's videos without replacement (Gumbel top-k), in random order."""
    activity = rng.lognormal(sigma=0.7, size=config.users)
    quota = np.minimum(rng.multinomial(config.exposures, activity / activity.sum()), config.videos)
    while (missing := config.exposures - int(quota.sum())) > 0:  # the most active users ran out of videos
        room = np.flatnonzero(quota < config.videos)
        quota[rng.choice(room, size=min(missing, len(room)), replace=False)] += 1
    pull_V = np.log(popularity)
    videos = []
    for u, count in enumerate(quota):
        pull = pull_V + config.policy * affinity_UV[u] / np.sqrt(config.latent)
        best = np.argpartition(-(pull + rng.gumbel(size=config.videos)), max(count - 1, 0))[:count]
        videos.append(rng.permutation(best))
    return np.repeat(np.arange(config.users), quota), np.concatenate(videos).astype(np.int64)


def draw_sessions(config: SyntheticConfig, user: I64, rng: np.random.Generator) -> tuple[I64, Bools]:
    """Return the session index of each row, and whether the session is hurried, both `[N]`."""
    first = np.append(True, user[1:] != user[:-1])
    begins = first | (rng.random(len(user)) < 1.0 / config.session_length)
    session = np.cumsum(begins) - 1
    hurried = rng.random(int(session[-1]) + 1) < config.hurried_sessions
    return session.astype(np.int64), hurried[session]


def draw_watch(
    config: SyntheticConfig, behaviour: F64, duration: F64, hurried: Bools, rng: np.random.Generator
) -> tuple[F64, I64, F64]:
    """Sample counterfactual watch time, watch state and observed watch time, all `[N]`."""
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


def draw_flags(config: SyntheticConfig, behaviour: F64, rng: np.random.Generator) -> Bools:
    """Sample flags `[N, 6]`: Bernoulli(σ(a logit ρ - b)), with b such that the mean is the rate."""
    logit = np.log(behaviour / (1 - behaviour))
    columns = []
    for name in FLAGS:
        slope = -config.explicit_slope if name == "hate" else config.explicit_slope
        low, high = -30.0, 30.0
        for _ in range(60):
            b = (low + high) / 2
            mean = float(np.mean(1.0 / (1.0 + np.exp(b - slope * logit))))
            low, high = (b, high) if mean > config.rates[name] else (low, b)
        columns.append(rng.random(len(behaviour)) < 1.0 / (1.0 + np.exp(b - slope * logit)))
    return np.stack(columns, axis=1)


def draw_timestamps(
    config: SyntheticConfig, user: I64, session: I64, watch: F64, rng: np.random.Generator
) -> I64:
    """Sample timestamps `[N]`, ms: sessions start at random, and their exposures follow each other."""
    start = datetime.fromisoformat(f"{config.start}T00:00:00+00:00").timestamp() * 1000
    span = config.days * 86_400_000
    begins = np.append(True, session[1:] != session[:-1])
    owner = user[begins]
    # A user's sessions get evenly spaced slots with jitter, so that they do not overlap.
    number = np.arange(len(owner)) - np.searchsorted(owner, owner)
    slots = np.bincount(owner, minlength=config.users)[owner]
    step = span / slots
    opened = (number + 0.5 * rng.random(len(owner))) * step
    step_ms = (watch + rng.exponential(3.0, size=len(user)) + 0.5) * 1000
    before = np.cumsum(step_ms) - step_ms
    inside = before - before[begins][session]
    # A session longer than its slot is compressed into the half that the jitter leaves free.
    longest = np.maximum.reduceat(inside, np.flatnonzero(begins))
    squeeze = np.minimum(1.0, 0.45 * step / np.maximum(longest, 1.0))
    out: I64 = np.floor(start + opened[session] + inside * squeeze[session]).astype(np.int64)
    return out
