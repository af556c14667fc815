"""Simulated users of short videos, whose tastes are known: they watch slates, tire, grow bored, and leave.

    population = Population.draw(PopulationConfig(users=400, videos=600), seed=0)
    sessions = Audience(population, seed=1).open_sessions(np.arange(400))
    while sessions.is_open.any():
        feedback = sessions.step(slates_NK)
    sessions.watch_time_s  # [N], of each whole session

Plain numpy: neither torch nor Polars is imported.
"""

from training.simulator._audience import Audience
from training.simulator._behaviour import (
    COMPLETE,
    PART,
    REPLAY,
    SKIP,
    BehaviourConfig,
    draw_flags,
    draw_watch,
    flag_thresholds,
    interest_of,
)
from training.simulator._config import PopulationConfig
from training.simulator._population import Population
from training.simulator._sessions import Feedback, Sessions

__all__ = [
    "COMPLETE",
    "PART",
    "REPLAY",
    "SKIP",
    "Audience",
    "BehaviourConfig",
    "Feedback",
    "Population",
    "PopulationConfig",
    "Sessions",
    "draw_flags",
    "draw_watch",
    "flag_thresholds",
    "interest_of",
]
