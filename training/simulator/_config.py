"""Config of a simulated population."""

from __future__ import annotations

from pydantic import Field

from training.simulator._behaviour import BehaviourConfig


class PopulationConfig(BehaviourConfig):
    """Size of a population, what its tastes are made of, and what a session does to them."""

    users: int = Field(400, gt=0)
    videos: int = Field(600, gt=1)
    tags: int = Field(12, gt=1)
    authors: int = Field(60, gt=1)
    latent: int = Field(8, gt=0)
    duration_log_mean: float = 3.3
    duration_log_std: float = 0.8
    """Durations are log-normal, clipped to 5-400 s; exp(3.3) = 27 s."""
    popularity: float = 0.8
    """Standard deviation of the log of how often a video is a candidate."""

    duration_taste: float = 0.5
    """Loss of interest, in logits, at a video e times as long or as short as a user likes best."""
    boredom: float = 0.6
    """Loss of interest, in logits, for each recent exposure of the same tag, and again of the same author."""
    boredom_memory: float = Field(0.85, ge=0, lt=1)
    """What is left of a recent exposure after another one."""
    fatigue: float = 0.05
    """Loss of interest, in logits, for each minute of the session."""
    seen_before: float = 2.0
    """Loss of interest, in logits, in a video that the user was shown before."""
    hated_author: float = 3.0
    """The same in all videos of an author of whom the user hated one."""

    leaving: float = Field(0.04, gt=0, lt=1)
    """Probability of leaving after an exposure, rested and of even mood."""
    leaving_fatigue: float = 0.15
    """Gain of its logit for each minute of the session."""
    mood: float = 1.5
    """How much a mood, from -1 of all skips to 1 of whole views, moves that logit, and the logarithm of the
    time until the next session."""
    mood_memory: float = Field(0.8, ge=0, lt=1)
    """What is left of a mood after an exposure."""
    gap_h: float = Field(20.0, gt=0)
    """Mean time between sessions of a user of even mood, hours."""
