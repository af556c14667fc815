"""The users of a simulation over time: what they were shown, and whom they hated."""

from __future__ import annotations

import numpy as np

from models.arrays import I64, Bools
from training.simulator._population import Population
from training.simulator._sessions import Sessions

# Shape suffixes: N sessions, U users, V videos, A authors.


class Audience:
    """Remembers from session to session. Two of one population and seed behave alike while slates are alike.

    Args:
        population: whose users they are.
        seed: of everything that they do.
    """

    def __init__(self, population: Population, seed: int = 0) -> None:
        config = population.config
        self.population = population
        self.seen_videos: Bools = np.zeros((config.users, config.videos), bool)
        """`[U, V]`"""
        self.hated_authors: Bools = np.zeros((config.users, config.authors), bool)
        """`[U, A]`"""
        self._rng = np.random.default_rng(seed)

    def open_sessions(self, users_N: I64) -> Sessions:
        """Open a session of each user, none of whom is named twice."""
        return Sessions(self.population, users_N, self.seen_videos, self.hated_authors, self._rng)
