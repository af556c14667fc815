"""Short-video users who tire, grow bored and leave: what policies are really worth in them."""

# Shape suffixes: U users, C candidates, S columns of a state, V videos, T tags, D tastes, N steps.

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch

from models.arrays import F32, F64, I64, Bools
from models.metrics import SKIP_S, long_view
from training.policies import Policy, Steps, draw_choices
from training.simulator import Audience, Population

_MEMORY: Final = 0.8
"""What is left of a recent exposure in the state after another one."""


class Log(NamedTuple):
    """Sessions under a policy, and what they earned."""

    steps: Steps
    is_long_view: Bools
    """`[N]` watched to the end, or 18 seconds of it."""
    session_watch_time_s: F64
    """`[sessions]`, all of it."""


def vectors_of(population: Population) -> F32:
    """Return what is known of a video: its tastes, its tag and its duration, `[V, D + T + 2]`."""
    c = population.config
    log_duration = (np.log(population.duration_s) - c.duration_log_mean) / c.duration_log_std
    columns = (
        population.video_latent,
        np.eye(c.tags)[population.tag],
        log_duration[:, None],
        log_duration[:, None] ** 2 - 1,
    )
    return np.concatenate(columns, axis=1).astype(np.float32)


class SessionStates:
    """What is known of users in a session: their tastes, as from a long history, and the session so far.

    Moods, hurry and the rules by which users tire and leave are not known.

    Args:
        population: the users, each of whom is in one session.
    """

    def __init__(self, population: Population) -> None:
        c = population.config
        self.population = population
        self._recent_tags = np.zeros((c.users, c.tags))
        self._so_far = np.zeros((c.users, 3))
        """Recent share watched, recent skips, minutes."""

    def rows(self, users: I64) -> F32:
        """Return the states of some users, `[U, D + T + 4]`."""
        p, c = self.population, self.population.config
        preferred = (p.preferred_log_duration[users, None] - c.duration_log_mean) / c.duration_log_std
        columns = (p.user_latent[users], preferred, self._recent_tags[users], self._so_far[users])
        return np.concatenate(columns, axis=1).astype(np.float32)

    def add(self, users: I64, video: I64, watch_time_s: F64) -> None:
        """Take in one exposure of each of some users."""
        duration_s = self.population.duration_s[video]
        ratio = np.minimum(watch_time_s / duration_s, 1.0)
        skip = watch_time_s < np.minimum(SKIP_S, duration_s)
        self._recent_tags[users] *= _MEMORY
        self._recent_tags[users, self.population.tag[video]] += 1
        self._so_far[users, :2] *= _MEMORY
        self._so_far[users] += np.stack([ratio, skip, watch_time_s / 60], axis=1) * [0.2, 0.2, 0.5]


def run_sessions(audience: Audience, policy: Policy, *, sessions: int, candidates: int, seed: int) -> Log:
    """Let every user have sessions, one after the other, in which the policy picks each next video.

    Args:
        audience: the users, who remember what they were shown.
        policy: chooses among candidates that are drawn by popularity.
        sessions: of each user.
        candidates: C.
        seed: of candidates and choices.
    """
    random = np.random.default_rng(seed)
    population = audience.population
    everyone = np.arange(population.config.users)
    parts, long_views, earned = [], [], []
    for number in range(sessions):
        known = SessionStates(population)
        opened = audience.open_sessions(everyone)
        while opened.is_open.any():
            users = np.flatnonzero(opened.is_open)
            state_US = known.rows(users)
            candidate_UC = population.draw_candidates(len(users), candidates, random)
            with torch.no_grad():
                chance = policy(torch.from_numpy(state_US), torch.from_numpy(candidate_UC)).numpy()
            action = draw_choices(chance.astype(np.float64), random)
            slate = np.zeros((len(everyone), 1), np.int64)
            shown = candidate_UC[np.arange(len(users)), action]
            slate[users, 0] = shown
            watch_time_s = opened.step(slate).watch_time_s[users, 0]
            known.add(users, shown, watch_time_s)
            parts.append(
                Steps(
                    user=users,
                    session=users * sessions + number,
                    state=state_US,
                    candidates=candidate_UC,
                    action=action,
                    reward=watch_time_s.astype(np.float32),
                    propensity=chance[np.arange(len(users)), action],
                )
            )
            long_views.append(long_view(watch_time_s, population.duration_s[shown]))
        earned.append(opened.watch_time_s)
    steps = Steps(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    order = np.argsort(steps.session, kind="stable")
    return Log(steps.take(order), np.concatenate(long_views)[order], np.concatenate(earned))
