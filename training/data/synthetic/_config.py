"""Config of the synthetic log."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class SyntheticConfig(BaseModel):
    """Size and distributions of the synthetic log. The defaults take a second or two."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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

    interest_scale: float = 2.5
    """Spread of logit ρ over pairs of user and video."""
    duration_log_mean: float = 3.3
    duration_log_std: float = 0.9
    """Durations are log-normal, clipped to 5-400 s; exp(3.3) = 27 s."""
    duration_exposure: float = 0.8
    """Gain in log exposure per standard deviation of log duration: the confounding."""
    popularity: float = 0.8
    """Standard deviation of log exposure for other reasons."""
    policy: float = 0.5
    """Weight of the interest in the logging policy."""

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
    session_length: float = 12.0
    """Mean number of exposures per session."""

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
    flip_fraction: float = Field(0.0, ge=0, le=1)
    """Share of rows whose behaviour follows 1 - ρ instead of ρ: rows that unlearning should remove."""
