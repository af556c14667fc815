"""Slates of simulated users, drawn by a known policy, of which the value of another policy is known."""

# Shape suffixes: N slates, K positions, M candidates, F features.

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Self

import numpy as np

from models.arrays import F64, I64
from training.off_policy import PlackettLuce

CANDIDATES: Final = 8
POSITIONS: Final = 3
FEATURES: Final = 3
SLATES_A_USER: Final = 5
_DRAWS: Final = 128
"""Of the marginal propensities, which the truth is computed from."""
_ATTENTION: Final = np.array([1.0, 0.7, 0.5])
"""Share of a video's reward that is left at each position."""


class PlantedLog(NamedTuple):
    """Slates of users drawn from a population, and what they earned."""

    slate: I64
    """`[N]` of each slate its number in the population."""
    user: I64
    """`[N]`; a user who was drawn twice is two users."""
    order: I64
    """`[N, K]` candidates by their index."""
    reward: F64
    """`[N, K]`"""


@dataclass(frozen=True, slots=True)
class PlantedSlates:
    """A population of slates, five a user.

    A video's mean reward is linear in its features, with tastes that users share in part, shrinks down the
    slate, and depends on nothing else. The logging policy sorts by a poor guess of the tastes, the target
    policy by a better one; both explore.
    """

    features: F64
    """`[N, M, F]`"""
    mean: F64
    """`[N, K, M]` mean rewards, noise aside."""
    logging: PlackettLuce
    target: PlackettLuce
    logging_marginals: F64
    """`[N, K, M]`"""
    target_marginals: F64
    """`[N, K, M]`"""

    @classmethod
    def draw(cls, users: int, seed: int) -> Self:
        """Draw a population."""
        random = np.random.default_rng(seed)
        features_NMF = random.normal(size=(users * SLATES_A_USER, CANDIDATES, FEATURES))
        shared_F = np.array([1.0, -0.6, 0.3])
        taste_NF = np.repeat(shared_F + random.normal(0.0, 0.5, (users, FEATURES)), SLATES_A_USER, axis=0)
        level_N = np.repeat(random.normal(3.0, 1.0, users), SLATES_A_USER)
        reward_NM = level_N[:, None] + np.einsum("nmf,nf->nm", features_NMF, taste_NF)
        mean_NKM = reward_NM[:, None] * _ATTENTION[:, None]
        logging = PlackettLuce(features_NMF @ np.array([0.5, 0.2, 0.0]), temperature=1.0, epsilon=0.1)
        target = PlackettLuce(features_NMF @ shared_F, temperature=1.0, epsilon=0.1)
        marginals = [policy.marginals(POSITIONS, draws=_DRAWS, seed=seed) for policy in (logging, target)]
        return cls(features_NMF, mean_NKM, logging, target, *marginals)

    @property
    def truth(self) -> float:
        """The target policy's value: mean reward of a slate over the population."""
        return float((self.target_marginals * self.mean).sum(axis=(1, 2)).mean())

    @property
    def logging_value(self) -> float:
        """The value of the logging policy."""
        return float((self.logging_marginals * self.mean).sum(axis=(1, 2)).mean())

    def log(self, users: int, seed: int) -> PlantedLog:
        """Draw users with replacement, and show each of their slates once by the logging policy."""
        random = np.random.default_rng(seed)
        population = len(self.features) // SLATES_A_USER
        first_U = random.integers(population, size=users) * SLATES_A_USER
        slate_N = (first_U[:, None] + np.arange(SLATES_A_USER)).ravel()
        policy = PlackettLuce(self.logging.score[slate_N], self.logging.temperature, self.logging.epsilon)
        order_NK = policy.sample(POSITIONS, draws=1, seed=int(random.integers(2**32)))[:, 0]
        reward_NK = shown_values(self.mean[slate_N], order_NK) + random.normal(0.0, 1.0, order_NK.shape)
        return PlantedLog(slate_N, np.repeat(np.arange(users), SLATES_A_USER), order_NK, reward_NK)


def shown_values(value_NKM: F64, order_NK: I64) -> F64:
    """Return the values of the shown candidates at their positions, `[N, K]`."""
    out: F64 = np.take_along_axis(value_NKM, order_NK[..., None], axis=2)[..., 0]
    return out
