"""A log in memory as arrays: one row per exposure, sorted by user and time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from models.arrays import F32, I64
from models.features import (
    FEEDBACK_COLUMNS,
    HISTORY_LENGTH,
    SEQUENCE_ID_COLUMNS,
    group_matrix,
    history_feedback,
    signal_columns,
)
from models.schema import EXPLICIT
from models.signals import NO_SIGNALS, Signals
from models.vocabulary import PADDING, UNKNOWN

# Shape suffixes: N rows of the log, B rows picked from it, L sequence steps, H history entries, M of the B.


_HATE = FEEDBACK_COLUMNS.index("hate")
_EXPLICIT_COLUMNS = [FEEDBACK_COLUMNS.index(name) for name in EXPLICIT]


class FeaturesOfVideos(NamedTuple):
    """Own features of videos, and which video each row of a log is of. V videos."""

    video: I64
    """`[N]` index of the row's video in the arrays."""
    numbers: F32
    """`[V, F]`, see `models.video_features.video_feature_arrays`."""
    categories: I64
    """`[V, K]`"""


class History(NamedTuple):
    """Sequences of users before given moments, and what was before those, oldest first, left-padded with
    index 0.

    The arrays are the ranker's inputs of the same names in `models.features`.
    """

    sequence_ids: I64
    """`[B, L, 4]`"""
    sequence_feedback: F32
    """`[B, L, 8 + S]`"""
    sequence_age_s: F32
    """`[B, L]`"""
    history_ids: I64
    """`[B, H]`"""
    history_feedback: F32
    """`[B, H, 2]`"""


@dataclass(frozen=True)
class Interactions:
    """N exposures, sorted by (user, timestamp, video).

    Times of the log are milliseconds (`timestamp_ms`); every duration is in seconds.
    """

    user: I64
    """`[N]` index of the user in `user_ids` and the profile arrays."""
    ids: I64
    """`[N, 4]` vocabulary indices, columns as `SEQUENCE_ID_COLUMNS`: video, author, tag, tab."""
    timestamp_ms: I64
    """`[N]`"""
    feedback: F32
    """`[N, 8 + S]` columns as `FEEDBACK_COLUMNS`: watch_time_s, duration_s, the flags; then `signals`."""
    user_ids: tuple[str, ...]
    """Ids of the users."""
    profile: F32
    """`[users, P]` numeric profile features, NaN where unknown."""
    profile_ids: I64
    """`[users, Q]` vocabulary indices of the categorical profile features."""
    history_ids: I64
    """`[users, W]` vocabulary indices of the videos shown before the log, oldest first, left-padded with 0;
    W is 0 where nothing is known of that time."""
    history_feedback: F32
    """`[users, W, 2]` what is known of them, columns as `HISTORY_COLUMNS`."""
    signals: Signals = NO_SIGNALS
    """The S own signals."""
    video_features: FeaturesOfVideos | None = None
    """Where the log declares any."""

    def __post_init__(self) -> None:
        key = (self.ids[:, 0], self.timestamp_ms, self.user)
        if len(self) and not (np.lexsort(key) == np.arange(len(self))).all():
            raise ValueError("rows must be sorted by (user, timestamp_ms, video)")

    def __len__(self) -> int:
        return len(self.user)

    @property
    def watch_time_s(self) -> F32:
        """`[N]` seconds watched; may exceed the duration."""
        return self.feedback[:, 0]

    @property
    def duration_s(self) -> F32:
        """`[N]` length of the video in seconds, > 0."""
        return self.feedback[:, 1]

    @property
    def explicit(self) -> F32:
        """`[N]` 1.0 where the user gave any explicit feedback or positive signal, δ(Σ y_e) of LabelCraft."""
        columns = [*_EXPLICIT_COLUMNS, *signal_columns(self.signals, self.signals.positive)]
        out: F32 = (self.feedback[:, columns].sum(axis=1) > 0).astype(np.float32)
        return out

    @property
    def hate(self) -> F32:
        """`[N]` 1.0 where the user asked for less of this, by a hate or a negative signal."""
        columns = [_HATE, *signal_columns(self.signals, self.signals.negative)]
        out: F32 = self.feedback[:, columns].max(axis=1)
        return out

    @property
    def tab(self) -> I64:
        """`[N]` vocabulary index of the tab in which the video was shown."""
        return self.ids[:, SEQUENCE_ID_COLUMNS.index("tab")]

    @property
    def groups(self) -> I64:
        """`[N, 2]` the groups of each exposure, columns as `GROUP_COLUMNS`: its tag and its user's group."""
        user_group = self.profile_ids[self.user, 0] if self.profile_ids.shape[1] else UNKNOWN
        return group_matrix(self.ids[:, SEQUENCE_ID_COLUMNS.index("tag")], user_group)

    def rows_between(self, from_ms: int, to_ms: int) -> I64:
        """Return the rows with `from_ms <= timestamp_ms < to_ms`."""
        inside = (self.timestamp_ms >= from_ms) & (self.timestamp_ms < to_ms)
        return np.flatnonzero(inside).astype(np.int64)

    def with_signals(self, signals: Signals) -> Interactions:
        """Return the log with columns of these signals in place of its own, 0 where it has none of them."""
        feedback = np.zeros((len(self), len(FEEDBACK_COLUMNS) + len(signals.names)), np.float32)
        feedback[:, : len(FEEDBACK_COLUMNS)] = self.feedback[:, : len(FEEDBACK_COLUMNS)]
        shared = [name for name in signals.names if name in self.signals.names]
        feedback[:, signal_columns(signals, shared)] = self.feedback[:, signal_columns(self.signals, shared)]
        return replace(self, feedback=feedback, signals=signals)

    def take(self, rows: I64) -> Interactions:
        """Return a log of the given rows (ascending) alone; sequences then consist of these rows, too."""
        features = self.video_features
        return replace(
            self,
            user=self.user[rows],
            ids=self.ids[rows],
            timestamp_ms=self.timestamp_ms[rows],
            feedback=self.feedback[rows],
            video_features=None if features is None else features._replace(video=features.video[rows]),
        )

    def features_of(self, rows: I64) -> tuple[F32, I64]:
        """Return the own features of the videos of B rows, `[B, F]` and `[B, K]`; F and K may be 0."""
        features = self.video_features
        if features is None:
            return np.zeros((len(rows), 0), np.float32), np.zeros((len(rows), 0), np.int64)
        video = features.video[rows]
        return features.numbers[video], features.categories[video]

    def first_row(self) -> I64:
        """Return the index of the first row of each row's user, `[N]`."""
        return np.searchsorted(self.user, self.user, side="left").astype(np.int64)

    def first_among(self, rows: I64) -> I64:
        """Return for each of `rows` the earliest of them that belongs to the same user, `[B]`."""
        # The log is in order of users, and of time within each.
        ascending = np.sort(rows)
        position = np.searchsorted(self.user[ascending], self.user[rows], side="left")
        return ascending[position].astype(np.int64)

    def history(self, rows: I64, length: int, first: I64 | None = None) -> History:
        """Return the sequence of each row's user strictly before the row, and what was before the sequence.

        Rows of the same millisecond are left out: their order is unknown.

        Args:
            rows: `[B]` indices.
            length: most steps of a sequence; the newest are kept. What is older is history, and after it what
                was before the log, at most `HISTORY_LENGTH` of both.
            first: `first_row()`, computed once by callers that ask many times.

        Returns:
            Arrays with L = the longest sequence among `rows`, at most `length`, and H = the longest history;
            both may be 0.
        """
        first = self.first_row() if first is None else first
        first_B = first[rows]
        end = rows.copy()  # exclusive
        now = self.timestamp_ms[rows]
        while True:
            tied = (end > first_B) & (self.timestamp_ms[np.maximum(end - 1, 0)] >= now)
            if not tied.any():
                break
            end[tied] -= 1
        start = np.maximum(first_B, end - length)
        steps = int((end - start).max(initial=0))
        index_BL = end[:, None] - steps + np.arange(steps)
        valid_BL = index_BL >= start[:, None]
        index_BL = np.where(valid_BL, index_BL, 0)
        ids = np.where(valid_BL[:, :, None], self.ids[index_BL], PADDING)
        feedback = np.where(valid_BL[:, :, None], self.feedback[index_BL], np.float32(0))
        age = np.where(valid_BL, (now[:, None] - self.timestamp_ms[index_BL]) / 1000.0, 0.0)
        return History(
            ids,
            feedback.astype(np.float32),
            age.astype(np.float32),
            *self._before_sequences(self.user[rows], first_B, start),
        )

    def _before_sequences(self, user_B: I64, first_B: I64, start_B: I64) -> tuple[I64, F32]:
        """Return `history_ids` and `history_feedback` of sequences that start at `start_B`, which may be
        `first_B`, the first row of the user."""
        width, older_B = self.history_ids.shape[1], np.minimum(start_B - first_B, HISTORY_LENGTH)
        known_B = older_B + (self.history_ids[user_B] != PADDING).sum(axis=1)
        entries = int(np.minimum(known_B, HISTORY_LENGTH).max(initial=0))
        newest, missing = max(width - entries, 0), (max(entries - width, 0), 0)
        ids = np.pad(self.history_ids[user_B, newest:], ((0, 0), missing))
        feedback = np.pad(self.history_feedback[user_B, newest:], ((0, 0), missing, (0, 0)))
        # Few sequences have rows of the log before them, which move the others to the left.
        moved_M = np.flatnonzero(older_B)
        column_H = np.arange(entries)
        column_MH = column_H + older_B[moved_M, None]
        logged_MH = column_MH >= entries
        cell = moved_M[:, None], np.minimum(column_MH, entries - 1)
        index_MH = np.where(logged_MH, start_B[moved_M, None] - entries + column_H, 0)
        ids[moved_M] = np.where(logged_MH, self.ids[index_MH, 0], ids[cell])
        flags = history_feedback(self.feedback[index_MH])
        feedback[moved_M] = np.where(logged_MH[:, :, None], flags, feedback[cell])
        return ids, feedback
