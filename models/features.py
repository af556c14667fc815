"""Events, candidates and profiles -> the raw tensors that both graphs take. The only place that does it.

Nothing here is learned or scaled: seconds stay seconds, and ids become indices of the vocabulary.
Normalisation, tables and statistics live inside the graphs, so that the training side and the service
cannot disagree about them.

This file is long because it is that place.

Shape suffixes: B users, L sequence steps, H history entries (both oldest first), N rows or candidates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from models.metrics import long_view
from models.schema import (
    FLAGS,
    Candidate,
    FeatureValue,
    FeedbackEvent,
    HistoryEntry,
    Profile,
    category_of,
)
from models.signals import NO_SIGNALS, Signals, with_signals
from models.video_features import NO_VIDEO_FEATURES, VideoFeatures, video_feature_arrays
from models.vocabulary import UNKNOWN, Vocabulary

Array = npt.NDArray[np.float32] | npt.NDArray[np.int64]

FEEDBACK_COLUMNS: Final = ("watch_time_s", "duration_s", *FLAGS)
"""Columns of `feedback` `[N, 8 + S]` and `sequence_feedback` `[B, L, 8 + S]`; flags are 0.0 or 1.0. The S
signals that a bundle declares follow, see `models.signals.Signals`."""

SEQUENCE_ID_COLUMNS: Final = ("video_id", "author_id", "tag", "tab")
"""Columns of `sequence_ids` `[B, L, 4]`. A step whose video index is 0 is padding."""

CANDIDATE_ID_COLUMNS: Final = ("video_id", "author_id", "tag")
"""Columns of `candidate_ids` `[B, N, 3]`."""

CONTEXT_ID_COLUMNS: Final = ("tab",)
"""Columns of `context_ids` `[B, 1]`."""

GROUP_COLUMNS: Final = ("tag", "user_group")
"""Columns of `group_ids` `[N, 2]`: the groups an exposure belongs to, for labels that compare within them.
Users are grouped by their first categorical profile feature."""

HISTORY_COLUMNS: Final = ("long_view", "like")
"""Columns of `history_feedback` `[B, H, 2]`, 0.0 or 1.0: all that is known of exposures before those of the
sequence. An entry whose index in `history_ids` `[B, H]` is 0 is padding."""

HISTORY_LENGTH: Final = 50
"""Most entries of a user's history; the newest are kept."""

_LIKE, _HATE = (FEEDBACK_COLUMNS.index(name) for name in ("like", "hate"))

_feedback_of: Final = attrgetter(*FEEDBACK_COLUMNS)
_history_of: Final = attrgetter(*HISTORY_COLUMNS)

_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Candidates:
    """N videos that may be ranked, by column: a list of N values a field. A slate has hundreds of them, and
    one object for each costs about as much as ranking them."""

    video_id: Sequence[str]
    duration_s: Sequence[float | None]
    author_id: Sequence[str | None]
    tag: Sequence[str | None]
    published_ms: Sequence[int | None] = ()
    """For rules; no feature is made of it. May be empty."""
    features: Sequence[Mapping[str, FeatureValue] | None] = ()
    """Own features, which the catalogue knows. May be empty."""

    def __len__(self) -> int:
        return len(self.video_id)

    @classmethod
    def from_rows(cls, rows: Sequence[Candidate]) -> Self:
        """Return the columns of these candidates."""
        return cls(
            [c.video_id for c in rows],
            [c.duration_s for c in rows],
            [c.author_id for c in rows],
            [c.tag for c in rows],
            [c.published_ms for c in rows],
        )

    def distinct(self) -> tuple[Candidates, list[str]]:
        """Return each video once, as first mentioned, and the ids of those that are mentioned again."""
        ids = self.video_id
        if len(set(ids)) == len(ids):
            return self, []
        first: dict[str, int] = {}
        repeated: dict[str, None] = {}
        for index, video_id in enumerate(ids):
            if first.setdefault(video_id, index) != index:
                repeated[video_id] = None
        return self.take(list(first.values())), list(repeated)

    def take(self, indices: Sequence[int]) -> Candidates:
        """Return the candidates at these indices, in this order."""
        return Candidates(
            [self.video_id[i] for i in indices],
            [self.duration_s[i] for i in indices],
            [self.author_id[i] for i in indices],
            [self.tag[i] for i in indices],
            [self.published_ms[i] for i in indices] if self.published_ms else (),
            [self.features[i] for i in indices] if self.features else (),
        )


@dataclass(frozen=True, slots=True)
class Exposures:
    """L exposures of one user, oldest first, by column; without the fields that no feature is made from."""

    video_id: Sequence[str]
    author_id: Sequence[str | None]
    tag: Sequence[str | None]
    tab: Sequence[str | None]
    feedback: npt.NDArray[np.float32]
    """`[L, 8]`, columns as in `FEEDBACK_COLUMNS`."""
    timestamp_ms: npt.NDArray[np.int64]
    """`[L]`."""
    signals: Sequence[Mapping[str, bool | float] | None] = ()
    """Own signals of each; empty where none has any."""

    def __len__(self) -> int:
        return len(self.video_id)

    @classmethod
    def from_events(cls, events: Sequence[FeedbackEvent]) -> Self:
        """Return the columns of these events. `duration_s` must be known."""
        signals = [e.signals for e in events]
        return cls(
            [e.video_id for e in events],
            [e.author_id for e in events],
            [e.tag for e in events],
            [e.tab for e in events],
            feedback_matrix(events),
            np.array([e.timestamp_ms for e in events], np.int64),
            signals if any(signals) else (),
        )

    def hated(self) -> list[int]:
        """Return the indices of those that the user hated."""
        indices: list[int] = np.flatnonzero(self.feedback[:, _HATE]).tolist()
        return indices

    def newest(self, count: int) -> Exposures:
        """Return the last `count` of them."""
        return self if len(self) <= count else self._part(slice(len(self) - count, None))

    def older(self, count: int) -> Exposures:
        """Return those before the last `count`."""
        return self._part(slice(max(len(self) - count, 0)))

    def _part(self, steps: slice) -> Exposures:
        return Exposures(
            self.video_id[steps],
            self.author_id[steps],
            self.tag[steps],
            self.tab[steps],
            self.feedback[steps],
            self.timestamp_ms[steps],
            self.signals[steps],
        )


@dataclass(frozen=True, slots=True)
class HistoryEntries:
    """H exposures of one user from before the sequence, oldest first, by column."""

    video_id: Sequence[str]
    feedback: npt.NDArray[np.float32]
    """`[H, 2]`, columns as in `HISTORY_COLUMNS`."""

    @classmethod
    def from_rows(cls, rows: Sequence[HistoryEntry]) -> Self:
        """Return the columns of these entries."""
        values = chain.from_iterable(map(_history_of, rows))
        feedback = np.fromiter(values, np.float32, len(rows) * len(HISTORY_COLUMNS))
        return cls([row.video_id for row in rows], feedback.reshape(len(rows), len(HISTORY_COLUMNS)))

    def rows(self) -> list[HistoryEntry]:
        """Return the entries."""
        flags = [dict(zip(HISTORY_COLUMNS, row, strict=True)) for row in (self.feedback > 0).tolist()]
        return [
            HistoryEntry(video_id=video, **known) for video, known in zip(self.video_id, flags, strict=True)
        ]


NO_HISTORY: Final = HistoryEntries([], np.zeros((0, len(HISTORY_COLUMNS)), np.float32))


def feedback_matrix(
    events: Sequence[FeedbackEvent], signals: Signals = NO_SIGNALS
) -> npt.NDArray[np.float32]:
    """Lay events out as rows.

    Args:
        events: N events in any order; the order is kept. `duration_s` must be known.
        signals: those that the bundle declares; others of an event are left out.

    Returns:
        `[N, 8 + S]` float32, columns as in `FEEDBACK_COLUMNS`, then the signals. N may be 0.
    """
    rows, columns = len(events), len(FEEDBACK_COLUMNS)
    values = chain.from_iterable(map(_feedback_of, events))
    feedback = np.fromiter(values, np.float32, rows * columns).reshape(rows, columns)
    return with_signals(feedback, [e.signals for e in events], signals) if signals.names else feedback


def signal_columns(signals: Signals, names: Sequence[str]) -> list[int]:
    """Return the columns of feedback that hold these signals."""
    return [len(FEEDBACK_COLUMNS) + signals.names.index(name) for name in names]


def group_ids(
    events: Sequence[FeedbackEvent],
    vocabulary: Vocabulary,
    profiles: Mapping[str, Profile],
    categories: Sequence[str],
) -> npt.NDArray[np.int64]:
    """Return the groups that exposures belong to, as indices of the vocabulary.

    Args:
        events: N events.
        vocabulary: the bundle's.
        profiles: profile features by user; a user that is missing is unknown.
        categories: names of the categorical profile features, in the manifest's order.

    Returns:
        `[N, 2]` int64, columns as in `GROUP_COLUMNS`; `UNKNOWN` where nothing is known. N may be 0.
    """
    by_user = {user: user_group(profile, categories, vocabulary) for user, profile in profiles.items()}
    return group_matrix(
        vocabulary.encode("tag", [e.tag for e in events]),
        [by_user.get(e.user_id, UNKNOWN) for e in events] if by_user else UNKNOWN,
    )


def user_group(profile: Profile, categories: Sequence[str], vocabulary: Vocabulary) -> int:
    """Return the index of a user's group: of the first categorical profile feature, if there is one."""
    return _category(profile, categories[0], vocabulary) if categories else UNKNOWN


def group_matrix(
    tag_N: npt.NDArray[np.int64], user_group_N: npt.NDArray[np.int64] | Sequence[int] | int
) -> npt.NDArray[np.int64]:
    """Lay group indices out as the label graph takes them, `[N, 2]` int64, columns as in `GROUP_COLUMNS`."""
    columns = {"tag": tag_N, "user_group": user_group_N}
    out = np.empty((len(tag_N), len(GROUP_COLUMNS)), np.int64)
    for column, name in enumerate(GROUP_COLUMNS):
        out[:, column] = columns[name]
    return out


def sequence_arrays(
    exposures: Exposures, vocabulary: Vocabulary, now_ms: int, signals: Signals = NO_SIGNALS
) -> dict[str, Array]:
    """Lay a user's exposures out as the ranker takes them.

    Args:
        exposures: L of them; L may be 0.
        vocabulary: the bundle's.
        now_ms: the moment of the ranking. An event after it (clocks differ) has age 0.
        signals: those that the bundle declares.

    Returns:
        `sequence_ids` `[1, L, 4]` int64, `sequence_feedback` `[1, L, 8 + S]` float32 and
        `sequence_age_s` `[1, L]` float32: seconds from the exposure to `now_ms`, never negative.
    """
    e = exposures
    columns = (e.video_id, e.author_id, e.tag, e.tab)
    feedback = with_signals(e.feedback, e.signals, signals) if signals.names else e.feedback
    age_s = np.maximum(now_ms - e.timestamp_ms, 0) / 1000.0
    return {
        "sequence_ids": _indices(vocabulary, SEQUENCE_ID_COLUMNS, columns),
        "sequence_feedback": feedback[None],
        "sequence_age_s": age_s.astype(np.float32)[None],
    }


def history_arrays(older: Exposures, imported: HistoryEntries, vocabulary: Vocabulary) -> dict[str, Array]:
    """Lay out what a user was shown before the sequence as the ranker takes it.

    Args:
        older: exposures before those of the sequence.
        imported: entries that are older still.
        vocabulary: the bundle's.

    Returns:
        `history_ids` `[1, H]` int64 and `history_feedback` `[1, H, 2]` float32: the newest `HISTORY_LENGTH`.
    """
    ids = (*imported.video_id, *older.video_id)[-HISTORY_LENGTH:]
    feedback = np.concatenate([imported.feedback, history_feedback(older.feedback)])[-HISTORY_LENGTH:]
    return {"history_ids": vocabulary.encode("video_id", ids)[None], "history_feedback": feedback[None]}


def history_feedback(feedback: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return what a history keeps of `[..., 8 + S]` feedback: `[..., 2]`, columns as in `HISTORY_COLUMNS`.

    What was watched or liked before a hate is no interest: of a hated exposure both are 0.
    """
    columns = {"long_view": long_view(feedback[..., 0], feedback[..., 1]), "like": feedback[..., _LIKE]}
    flags = np.stack([columns[name] for name in HISTORY_COLUMNS], axis=-1)
    out: npt.NDArray[np.float32] = (flags * (feedback[..., _HATE, None] == 0)).astype(np.float32)
    return out


def candidate_arrays(
    candidates: Candidates, vocabulary: Vocabulary, features: VideoFeatures = NO_VIDEO_FEATURES
) -> dict[str, Array]:
    """Lay candidates out as the ranker takes them.

    Args:
        candidates: N of them.
        vocabulary: the bundle's.
        features: own features of videos that the bundle declares.

    Returns:
        `candidate_ids` `[1, N, 3]` int64 and `candidate_duration_s` `[1, N]` float32, where an
        unknown duration is NaN: the graph puts the typical one in its place. If there are features,
        `candidate_numbers` and `candidate_categories` too, see `video_feature_arrays`.
    """
    c = candidates
    arrays: dict[str, Array] = {
        "candidate_ids": _indices(vocabulary, CANDIDATE_ID_COLUMNS, (c.video_id, c.author_id, c.tag)),
        "candidate_duration_s": np.array([c.duration_s], np.float32),  # None becomes NaN
    }
    if features.names:
        numbers, categories = video_feature_arrays(c.features or [None] * len(c), vocabulary, features)
        arrays |= {"candidate_numbers": numbers[None], "candidate_categories": categories[None]}
    return arrays


def _indices(
    vocabulary: Vocabulary, fields: Sequence[str], columns: Sequence[Sequence[str | None]]
) -> npt.NDArray[np.int64]:
    """`[1, N, fields]` from a column of N ids for each field."""
    out = np.empty((1, len(columns[0]), len(fields)), np.int64)
    for column, (name, ids) in enumerate(zip(fields, columns, strict=True)):
        out[0, :, column] = vocabulary.encode(name, ids)
    return out


def context_arrays(
    profile: Profile,
    tab: str | None,
    vocabulary: Vocabulary,
    numbers: Sequence[str],
    categories: Sequence[str],
) -> dict[str, Array]:
    """Lay out what is known of the user and the request, besides the sequence.

    Args:
        profile: the user's profile features; names the bundle does not declare are ignored.
        tab: where the slate will be shown; `None` is unknown.
        vocabulary: the bundle's.
        numbers: names of the numeric profile features, in the manifest's order.
        categories: names of the categorical ones, in the manifest's order.

    Returns:
        `context_ids` `[1, 1]` int64, `profile` `[1, P]` float32 (NaN is unknown: missing, text, or beyond
        a float32) and `profile_ids` `[1, Q]` int64.
    """
    return {
        "context_ids": np.array([[vocabulary.index("tab", tab)]], np.int64),
        "profile": np.array([[_number(profile.get(name)) for name in numbers]], np.float32),
        "profile_ids": np.array(
            [[_category(profile, name, vocabulary) for name in categories]], np.int64
        ).reshape(1, len(categories)),
    }


def _number(value: float | str | None) -> float:
    """NaN for what no float32 can hold: an infinity would go through the whole graph."""
    return float(value) if isinstance(value, int | float) and abs(value) < _FLOAT32_MAX else float("nan")


def _category(profile: Mapping[str, float | str], name: str, vocabulary: Vocabulary) -> int:
    value = profile.get(name)
    return UNKNOWN if value is None else vocabulary.index(f"profile.{name}", category_of(value))


def columns_digest(
    *,
    grouped: bool = False,
    reads_history: bool = False,
    signals: Signals = NO_SIGNALS,
    video_features: VideoFeatures = NO_VIDEO_FEATURES,
) -> str:
    """Return the fingerprint of every column order above, `GROUP_COLUMNS` too if the label graph takes
    groups, `HISTORY_COLUMNS` if the ranker reads histories, and the signals and features of videos if there
    are any. A bundle fitted on another one refuses to load."""
    parts: tuple[tuple[str, ...], ...]
    parts = (FEEDBACK_COLUMNS, SEQUENCE_ID_COLUMNS, CANDIDATE_ID_COLUMNS, CONTEXT_ID_COLUMNS)
    parts += (GROUP_COLUMNS,) if grouped else ()
    parts += (HISTORY_COLUMNS,) if reads_history else ()
    parts += (signals.names,) if signals.names else ()
    parts += (video_features.names,) if video_features.names else ()
    return hashlib.sha256("|".join(",".join(p) for p in parts).encode()).hexdigest()[:16]
