"""Users and videos of a simulation, with their tastes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np

from models.arrays import F64, I64
from training.simulator._behaviour import flag_thresholds, interest_of
from training.simulator._config import PopulationConfig

# Shape suffixes: U users, V videos, D latent dimensions, N users of a call, K their videos.

_SEGMENTS: Final = 4
_PAIRS: Final = 20_000
"""Pairs of user and video that the rates of flags hold for."""


@dataclass(frozen=True, slots=True)
class Population:
    """Users and videos. The same config and seed give the same population."""

    config: PopulationConfig
    user_latent: F64
    """`[U, D]`"""
    preferred_log_duration: F64
    """`[U]`, of seconds."""
    video_latent: F64
    """`[V, D]`"""
    duration_s: F64
    """`[V]`"""
    author: I64
    """`[V]`"""
    tag: I64
    """`[V]`; an author has one."""
    popularity: F64
    """`[V]` how probable it is as a candidate, sums to 1."""
    flag_thresholds: F64
    """`[F]`, see `draw_flags`."""

    @classmethod
    def draw(cls, config: PopulationConfig | None = None, seed: int = 0) -> Self:
        """Draw tastes by segment and user; videos by tag, author and themselves."""
        c = config or PopulationConfig()
        rng = np.random.default_rng(seed)
        segment = rng.integers(_SEGMENTS, size=c.users)
        user_UD = rng.normal(size=(_SEGMENTS, c.latent))[segment] * 0.7
        user_UD += rng.normal(size=user_UD.shape) * 0.7
        author_tag = rng.integers(c.tags, size=c.authors)
        author = rng.integers(c.authors, size=c.videos)
        video_VD = 0.6 * rng.normal(size=(c.tags, c.latent))[author_tag][author]
        video_VD += 0.5 * rng.normal(size=(c.authors, c.latent))[author]
        video_VD += 0.5 * rng.normal(size=video_VD.shape)
        log_duration = c.duration_log_mean + c.duration_log_std * rng.normal(size=c.videos)
        appeal = np.exp(c.popularity * rng.normal(size=c.videos))
        drawn = cls(
            config=c,
            user_latent=user_UD,
            preferred_log_duration=rng.normal(c.duration_log_mean, c.duration_log_std, c.users),
            video_latent=video_VD,
            duration_s=np.clip(np.exp(log_duration), 5.0, 400.0).round(3),
            author=author,
            tag=author_tag[author],
            popularity=appeal / appeal.sum(),
            flag_thresholds=np.zeros(0),
        )
        users, videos = rng.integers(c.users, size=_PAIRS), rng.integers(c.videos, size=_PAIRS)
        thresholds = flag_thresholds(c, drawn.interest(users, videos[:, None])[:, 0])
        return replace(drawn, flag_thresholds=thresholds)

    def interest(self, users_N: I64, videos_NK: I64) -> F64:
        """Return ρ of a rested user in videos that are new to her, `[N, K]` in (0.01, 0.99)."""
        c = self.config
        affinity_NK = np.einsum("nd,nkd->nk", self.user_latent[users_N], self.video_latent[videos_NK])
        off_NK = np.log(self.duration_s[videos_NK]) - self.preferred_log_duration[users_N, None]
        loss_NK = c.duration_taste * np.minimum(np.abs(off_NK), 3.0)
        return interest_of(c, affinity_NK / np.sqrt(c.latent) - loss_NK / c.interest_scale)

    def draw_candidates(self, slates: int, count: int, rng: np.random.Generator) -> I64:
        """Draw candidates by popularity, `[slates, count]`, none of them twice in a slate."""
        noise = np.log(self.popularity) + rng.gumbel(size=(slates, len(self.popularity)))
        out: I64 = np.argpartition(-noise, count - 1, axis=1)[:, :count]
        return out
