"""Config of the synthetic log."""

from __future__ import annotations

from pydantic import Field

from training.simulator import BehaviourConfig


class SyntheticConfig(BehaviourConfig):
    """Size and distributions of the synthetic log. The defaults take a second or two."""

    users: int = Field(600, gt=0)
    videos: int = Field(800, gt=1)
    exposures: int = Field(40_000, gt=0)
    """Rows. A user sees a video at most once, so at most users * videos / 2."""
    days: int = Field(12, gt=0)
    start: str = "2024-01-01"
    """First day, UTC."""
    tags: int = Field(12, gt=1)
    authors: int = Field(150, gt=0)
    latent: int = Field(8, gt=0)

    duration_log_mean: float = 3.3
    duration_log_std: float = 0.9
    """Durations are log-normal, clipped to 5-400 s; exp(3.3) = 27 s."""
    duration_exposure: float = 0.8
    """Gain in log exposure per standard deviation of log duration: the confounding."""
    popularity: float = 0.8
    """Standard deviation of log exposure for other reasons."""
    policy: float = 0.5
    """Weight of the interest in the logging policy."""

    session_length: float = 12.0
    """Mean number of exposures per session."""
    flip_fraction: float = Field(0.0, ge=0, le=1)
    """Share of rows whose behaviour follows 1 - ρ instead of ρ: rows that unlearning should remove."""
