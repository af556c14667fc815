"""Events, candidates and profiles -> the raw tensors that both graphs take. The only place that does it.

Nothing here is learned or scaled: seconds stay seconds, and ids become the rows of the vocabulary.
Normalisation, tables and statistics live inside the graphs, so that the training side and the service
cannot disagree about them.

Shape suffixes: B users, L sequence steps (oldest first), N rows or candidates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import attrgetter
from typing import Final

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


def sequence_arrays(events: Sequence[FeedbackEvent], vocabulary: Vocabulary, now_ms: int) -> dict[str, Array]:
    """A user's exposures as the ranker reads them.

    Args:
        events: L exposures, oldest first. `duration_s` must be known. L may be 0.
        vocabulary: the bundle's.
        now_ms: the moment of the ranking. An event after it (clocks differ) has age 0.

    Returns:
        `sequence_ids` `[1, L, 4]` int64, `sequence_feedback` `[1, L, 8]` float32 and
        `sequence_age_s` `[1, L]` float32: seconds from the exposure to `now_ms`, never negative.
    """
    video, author, tag, tab = (vocabulary.rows(name).get for name in SEQUENCE_ID_COLUMNS)
    ids = [
        row
        for e in events
        for row in (
            video(e.video_id, UNKNOWN),
            author(e.author_id or "", UNKNOWN),
            tag(e.tag or "", UNKNOWN),
            tab(e.tab or "", UNKNOWN),
        )
    ]
    return {
        "sequence_ids": np.array(ids, np.int64).reshape(1, len(events), 4),
        "sequence_feedback": feedback_matrix(events)[None],
        "sequence_age_s": np.array(
            [max(now_ms - e.timestamp_ms, 0) / 1000.0 for e in events], np.float32
        ).reshape(1, len(events)),
    }


def candidate_arrays(candidates: Sequence[Candidate], vocabulary: Vocabulary) -> dict[str, Array]:
    """Candidates as the ranker reads them.

    Returns:
        `candidate_ids` `[1, N, 3]` int64 and `candidate_duration_s` `[1, N]` float32, where an
        unknown duration is NaN: the graph puts the typical one in its place.
    """
    video, author, tag = (vocabulary.rows(name).get for name in CANDIDATE_ID_COLUMNS)
    ids = [
        row
        for c in candidates
        for row in (
            video(c.video_id, UNKNOWN),
            author(c.author_id or "", UNKNOWN),
            tag(c.tag or "", UNKNOWN),
        )
    ]
    durations = [np.nan if c.duration_s is None else c.duration_s for c in candidates]
    return {
        "candidate_ids": np.array(ids, np.int64).reshape(1, len(candidates), 3),
        "candidate_duration_s": np.array(durations, np.float32).reshape(1, len(candidates)),
    }


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
