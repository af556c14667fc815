"""Steps of the simulation: exposures, sessions, timestamps."""

from __future__ import annotations

from datetime import datetime

import numpy as np

from models.arrays import F64, I64, Bools
from training.data.synthetic._config import SyntheticConfig

# Shape suffixes: N exposures, U users, V videos.


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
