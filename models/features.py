"""Events, candidates and profiles -> the raw tensors that both graphs take. The only place that does it.

Nothing here is learned or scaled: seconds stay seconds, and ids become the rows of the vocabulary.
Normalisation, tables and statistics live inside the graphs, so that the training side and the service
cannot disagree about them.

Shape suffixes: B users, L sequence steps (oldest first), N rows or candidates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import attrgetter
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from models.schema import FLAGS, Candidate, FeedbackEvent, Profile
from models.vocabulary import UNKNOWN, Vocabulary

Array = npt.NDArray[np.float32] | npt.NDArray[np.int64]

FEEDBACK_COLUMNS: Final = ("watch_time_s", "duration_s", *FLAGS)
"""Columns of `feedback` `[N, 8]` and `sequence_feedback` `[B, L, 8]`; flags are 0.0 or 1.0."""

SEQUENCE_ID_COLUMNS: Final = ("video_id", "author_id", "tag", "tab")
"""Columns of `sequence_ids` `[B, L, 4]`. A step whose video row is 0 is padding."""

CANDIDATE_ID_COLUMNS: Final = ("video_id", "author_id", "tag")
"""Columns of `candidate_ids` `[B, N, 3]`."""

CONTEXT_ID_COLUMNS: Final = ("tab",)
"""Columns of `context_ids` `[B, 1]`."""

GROUP_COLUMNS: Final = ("tag", "user_group")
"""Columns of `group_ids` `[N, 2]`: the crowds an exposure belongs to, for labels that compare within them.
Users are grouped by their first categorical profile feature."""

_feedback_of: Final = attrgetter(*FEEDBACK_COLUMNS)

_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Candidates:
    """N videos that may be ranked, by columns: a list of N a member. A slate has hundreds of them, and to
    look at each as an object costs about as much as ranking it."""

    video_id: Sequence[str]
    duration_s: Sequence[float | None]
    author_id: Sequence[str | None]
    tag: Sequence[str | None]

    def __len__(self) -> int:
        return len(self.video_id)

    @classmethod
    def of(cls, rows: Sequence[Candidate]) -> Self:
        """The columns of these rows."""
        return cls(
            [c.video_id for c in rows],
            [c.duration_s for c in rows],
            [c.author_id for c in rows],
            [c.tag for c in rows],
        )

    def at(self, places: Sequence[int]) -> Candidates:
        """Those at these places, in this order."""
        return Candidates(
            [self.video_id[i] for i in places],
            [self.duration_s[i] for i in places],
            [self.author_id[i] for i in places],
            [self.tag[i] for i in places],
        )


@dataclass(frozen=True, slots=True)
class Exposures:
    """L exposures of one user, oldest first, by columns; without the members that no feature is made from."""

    video_id: Sequence[str]
    author_id: Sequence[str | None]
    tag: Sequence[str | None]
    tab: Sequence[str | None]
    feedback: npt.NDArray[np.float32]
    """`[L, 8]`, columns as in `FEEDBACK_COLUMNS`."""
    timestamp_ms: npt.NDArray[np.int64]
    """`[L]`."""

    def __len__(self) -> int:
        return len(self.video_id)

    @classmethod
    def of(cls, events: Sequence[FeedbackEvent]) -> Self:
        """The columns of these events. `duration_s` must be known."""
        return cls(
            [e.video_id for e in events],
            [e.author_id for e in events],
            [e.tag for e in events],
            [e.tab for e in events],
            feedback_matrix(events),
            np.array([e.timestamp_ms for e in events], np.int64),
        )

    def newest(self, count: int) -> Exposures:
        """The last `count` of them."""
        if len(self) <= count:
            return self
        last = slice(len(self) - count, None)
        return Exposures(
            self.video_id[last],
            self.author_id[last],
            self.tag[last],
            self.tab[last],
            self.feedback[last],
            self.timestamp_ms[last],
        )


def feedback_matrix(events: Sequence[FeedbackEvent]) -> npt.NDArray[np.float32]:
    """Lay events out as rows.

    Args:
        events: N events in any order; the order is kept. `duration_s` must be known.

    Returns:
        `[N, 8]` float32, columns as in `FEEDBACK_COLUMNS`. N may be 0.
    """
    flat = list(chain.from_iterable(map(_feedback_of, events)))
    return np.array(flat, np.float32).reshape(len(events), len(FEEDBACK_COLUMNS))


def group_ids(
    events: Sequence[FeedbackEvent],
    vocabulary: Vocabulary,
    profiles: Mapping[str, Profile],
    categories: Sequence[str],
) -> npt.NDArray[np.int64]:
    """The crowds that exposures belong to, as rows of the vocabulary.

    Args:
        events: N events.
        vocabulary: the bundle's.
        profiles: profile features by user; a user that is missing is unknown.
        categories: names of the categorical profile features, in the manifest's order.

    Returns:
        `[N, 2]` int64, columns as in `GROUP_COLUMNS`; `UNKNOWN` where nothing is known. N may be 0.
    """
    tag = vocabulary.rows("tag").get
    of_user = {
        user: _category(profile, categories[0], vocabulary) if categories else UNKNOWN
        for user, profile in profiles.items()
    }
    groups = np.empty((len(events), len(GROUP_COLUMNS)), np.int64)
    groups[:, 0] = [UNKNOWN if e.tag is None else tag(e.tag, UNKNOWN) for e in events]
    groups[:, 1] = [of_user.get(e.user_id, UNKNOWN) for e in events] if of_user else UNKNOWN
    return groups


def sequence_arrays(exposures: Exposures, vocabulary: Vocabulary, now_ms: int) -> dict[str, Array]:
    """A user's exposures as the ranker reads them.

    Args:
        exposures: L of them; L may be 0.
        vocabulary: the bundle's.
        now_ms: the moment of the ranking. An event after it (clocks differ) has age 0.

    Returns:
        `sequence_ids` `[1, L, 4]` int64, `sequence_feedback` `[1, L, 8]` float32 and
        `sequence_age_s` `[1, L]` float32: seconds from the exposure to `now_ms`, never negative.
    """
    e = exposures
    columns = (e.video_id, e.author_id, e.tag, e.tab)
    age_s = np.maximum(now_ms - e.timestamp_ms, 0) / 1000.0
    return {
        "sequence_ids": _rows(vocabulary, SEQUENCE_ID_COLUMNS, columns),
        "sequence_feedback": e.feedback[None],
        "sequence_age_s": age_s.astype(np.float32)[None],
    }


def candidate_arrays(candidates: Candidates, vocabulary: Vocabulary) -> dict[str, Array]:
    """Candidates as the ranker reads them.

    Returns:
        `candidate_ids` `[1, N, 3]` int64 and `candidate_duration_s` `[1, N]` float32, where an
        unknown duration is NaN: the graph puts the typical one in its place.
    """
    c = candidates
    return {
        "candidate_ids": _rows(vocabulary, CANDIDATE_ID_COLUMNS, (c.video_id, c.author_id, c.tag)),
        "candidate_duration_s": np.array([c.duration_s], np.float32),  # None becomes NaN
    }


def _rows(
    vocabulary: Vocabulary, fields: Sequence[str], columns: Sequence[Sequence[str | None]]
) -> npt.NDArray[np.int64]:
    """Per field a column of ids, `None` where there is none -> their rows `[1, N, fields]`."""
    size = len(columns[0])
    out = np.empty((1, size, len(fields)), np.int64)
    for place, (name, ids) in enumerate(zip(fields, columns, strict=True)):
        # A loop in C. No vocabulary has None, so None is unknown like any other.
        row: Callable[[str | None, int], int] = vocabulary.rows(name).get  # type: ignore[assignment]
        out[0, :, place] = np.fromiter(map(row, ids, repeat(UNKNOWN)), np.int64, size)
    return out


def context_arrays(
    profile: Profile,
    tab: str | None,
    vocabulary: Vocabulary,
    numbers: Sequence[str],
    categories: Sequence[str],
) -> dict[str, Array]:
    """What is known of the user and the moment, besides the sequence.

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
        "context_ids": np.array([[vocabulary.row("tab", tab)]], np.int64),
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
    return UNKNOWN if value is None else vocabulary.row(f"profile.{name}", category_of(value))


def category_of(value: float | str) -> str:
    """A categorical value as its vocabulary spells it: `3`, `3.0` and `"3"` are one category."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def columns_digest(*, grouped: bool = False) -> str:
    """Fingerprint of every column order above, `GROUP_COLUMNS` too if the labeler takes groups. A bundle
    fitted on another one refuses to load."""
    parts: tuple[tuple[str, ...], ...]
    parts = (FEEDBACK_COLUMNS, SEQUENCE_ID_COLUMNS, CANDIDATE_ID_COLUMNS, CONTEXT_ID_COLUMNS)
    parts += (GROUP_COLUMNS,) if grouped else ()
    return hashlib.sha256("|".join(",".join(p) for p in parts).encode()).hexdigest()[:16]
