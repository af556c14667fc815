"""Config of `compare policies`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt

from training.config import Config
from training.experiments.config import ExperimentConfig
from training.policies import QLearningConfig
from training.simulator import PopulationConfig


class ChainConfig(Config):
    """Tabular processes, see `TabularProcess.chain`."""

    states: PositiveInt = 40
    sessions: PositiveInt = 3000
    """Logged by a policy that is the best one a quarter of the time, and random otherwise."""
    learning: QLearningConfig = QLearningConfig(updates=400, average=0.9, batch=192, learning_rate=6e-3)


class SimulatorConfig(Config):
    """Simulated users, see `run_sessions`."""

    population: PopulationConfig = PopulationConfig(
        users=800, mood=4.0, leaving=0.08, duration_log_std=1.2, duration_taste=0.2
    )
    """Users who leave in bad moods, and videos of very different durations: the longest are watched longest,
    and seldom to their end, which is what lifts a mood."""
    candidates: Annotated[int, Field(ge=2)] = 8
    random_sessions: PositiveInt = 4
    """Of each user, at random: the first policy learns from them."""
    logged_sessions: PositiveInt = 8
    """Of each user, by the greedy label of these 60 % of the time and random otherwise: the log."""
    tested_sessions: PositiveInt = 2
    """Of each user, under each policy."""
    learning: QLearningConfig = QLearningConfig(
        gamma=0.95, n=2, conservative=0.02, hidden=48, average=0.95, updates=800, batch=128
    )


class LogConfig(Config):
    """Decisions of the log, see `log_steps`."""

    candidates: Annotated[int, Field(ge=2)] = 10
    length: PositiveInt = 30
    most_watch_time_s: float = 180.0
    """Seconds above it count as so many, since a few replays would decide a mean."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Of a policy in the estimates; the log's own policy decides the rest. A policy alone has no overlap."""
    learning: QLearningConfig = QLearningConfig(
        next_session=0.9, n=2, average=0.9, updates=200, batch=192, learning_rate=6e-3
    )


class ScaleConfig(Config):
    """How large a catalogue may be."""

    videos: PositiveInt = 4_369_953
    """Of SASRec4SV's log."""
    exposures: PositiveInt = 200_000
    updates: PositiveInt = 300


class PoliciesConfig(ExperimentConfig):
    """Everything that decides the figures besides the log."""

    chain: ChainConfig = ChainConfig()
    simulator: SimulatorConfig = SimulatorConfig()
    log: LogConfig = LogConfig()
    scale: ScaleConfig = ScaleConfig()
