"""Sessions: users walk down slates, video by video, until they leave."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from models.arrays import F64, I64, Bools
from models.schema import FLAGS
from training.simulator._behaviour import COMPLETE, REPLAY, SKIP, draw_flags, draw_watch
from training.simulator._population import Population

# Shape suffixes: N sessions, K positions of a slate, F flags.

PAUSE_S: Final = 1.0
"""Seconds between two exposures."""
_HATE: Final = FLAGS.index("hate")


class Feedback(NamedTuple):
    """What came of one slate a session; 0 where nothing was shown."""

    is_shown: Bools
    """`[N, K]`: users who left see nothing below."""
    watch_time_s: F64
    """`[N, K]`"""
    flags: Bools
    """`[N, K, F]` in the order of `FLAGS`."""
    begins_s: F64
    """`[N, K]` seconds from the start of the session to the exposure."""
    interest: F64
    """`[N, K]` ρ', which the behaviour followed."""


class Sessions:
    """N sessions side by side, one a user; `Audience.open_sessions` makes them.

        logit ρ' = logit ρ - boredom - fatigue - (seen before) - (author hated)

    and behaviour follows ρ'. Boredom counts recent exposures of the same tag and author, fatigue the minutes
    of the session. After each exposure the user leaves with a probability that rises with fatigue and falls
    with the mood, which skips and hates spoil and whole views lift.
    """

    def __init__(
        self,
        population: Population,
        users_N: I64,
        seen_videos: Bools,
        hated_authors: Bools,
        rng: np.random.Generator,
    ) -> None:
        config = population.config
        self.users = users_N
        self.is_open: Bools = np.ones(len(users_N), bool)
        """`[N]`"""
        self.watch_time_s = np.zeros(len(users_N))
        """`[N]` so far."""
        self.elapsed_s = np.zeros(len(users_N))
        """`[N]` so far."""
        self.mood = np.zeros(len(users_N))
        """`[N]` from -1 to 1."""
        self._population, self._rng = population, rng
        self._seen_videos, self._hated_authors = seen_videos, hated_authors
        self._hurried: Bools = rng.random(len(users_N)) < config.hurried_sessions
        self._recent_tags = np.zeros((len(users_N), config.tags))
        self._recent_authors = np.zeros((len(users_N), config.authors))

    def step(self, slate_NK: I64) -> Feedback:
        """Show a slate to each user whose session is open.

        Args:
            slate_NK: videos by their index, best first; rows of sessions that have ended do not matter.
        """
        shape = slate_NK.shape
        flags = np.zeros((*shape, len(FLAGS)), bool)
        feedback = Feedback(np.zeros(shape, bool), np.zeros(shape), flags, np.zeros(shape), np.zeros(shape))
        for k in range(shape[1]):
            rows = np.flatnonzero(self.is_open)
            feedback.is_shown[rows, k] = True
            feedback.begins_s[rows, k] = self.elapsed_s[rows]
            interest = self._interest(rows, slate_NK[rows, k : k + 1])[:, 0]
            feedback.interest[rows, k] = interest
            feedback.watch_time_s[rows, k], feedback.flags[rows, k] = self._watch(
                rows, slate_NK[rows, k], interest
            )
        return feedback

    def interest(self, videos_NK: I64) -> F64:
        """Return ρ' of each user in videos at this moment of the session, `[N, K]` in (0.01, 0.99)."""
        return self._interest(np.arange(len(self.users)), videos_NK)

    def draw_gaps_s(self) -> F64:
        """Draw the seconds until each user's next session, `[N]`: the better the mood, the fewer."""
        c = self._population.config
        mean_s = 3600.0 * c.gap_h * np.exp(-c.mood * self.mood)
        out: F64 = 1800.0 + self._rng.exponential(mean_s)
        return out

    def _interest(self, rows: I64, videos_NK: I64) -> F64:
        p, c = self._population, self._population.config
        users, each = self.users[rows], rows[:, None]
        interest = p.interest(users, videos_NK)
        tags, authors = p.tag[videos_NK], p.author[videos_NK]
        logit = np.log(interest / (1 - interest))
        logit -= c.boredom * (self._recent_tags[each, tags] + self._recent_authors[each, authors])
        logit -= c.fatigue * self.elapsed_s[rows, None] / 60
        logit -= c.seen_before * self._seen_videos[users[:, None], videos_NK]
        logit -= c.hated_author * self._hated_authors[users[:, None], authors]
        out: F64 = np.clip(1.0 / (1.0 + np.exp(-logit)), 0.01, 0.99)
        return out

    def _watch(self, rows: I64, videos: I64, interest: F64) -> tuple[F64, Bools]:
        """Let the users of open sessions watch one video each."""
        p, c, users = self._population, self._population.config, self.users[rows]
        _, state, watch_s = draw_watch(c, interest, p.duration_s[videos], self._hurried[rows], self._rng)
        flags = draw_flags(c, interest, p.flag_thresholds, self._rng)
        hate = flags[:, _HATE].copy()
        flags[hate] = False
        flags[:, _HATE] = hate

        self._seen_videos[users, videos] = True
        self._hated_authors[users[hate], p.author[videos[hate]]] = True
        for recent, group in ((self._recent_tags, p.tag), (self._recent_authors, p.author)):
            recent[rows] *= c.boredom_memory
            recent[rows, group[videos]] += 1
        self.watch_time_s[rows] += watch_s
        self.elapsed_s[rows] += watch_s + PAUSE_S
        felt = np.select([hate | (state == SKIP), (state == COMPLETE) | (state == REPLAY)], [-1.0, 1.0], 0.0)
        self.mood[rows] = c.mood_memory * self.mood[rows] + (1 - c.mood_memory) * felt
        logit = np.log(c.leaving / (1 - c.leaving)) - c.mood * self.mood[rows]
        logit += c.leaving_fatigue * self.elapsed_s[rows] / 60
        self.is_open[rows] = self._rng.random(len(rows)) >= 1.0 / (1.0 + np.exp(-logit))
        return watch_s, flags
