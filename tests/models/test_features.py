"""Events, candidates and profiles as the graphs take them: raw seconds, rows, and nothing learned."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import models.features
from models.features import (
    CANDIDATE_ID_COLUMNS,
    FEEDBACK_COLUMNS,
    GROUP_COLUMNS,
    HISTORY_COLUMNS,
    HISTORY_LENGTH,
    SEQUENCE_ID_COLUMNS,
    Array,
    Candidates,
    Exposures,
    HistoryEntries,
    candidate_arrays,
    columns_digest,
    context_arrays,
    feedback_matrix,
    group_ids,
    history_arrays,
    history_feedback,
    sequence_arrays,
)
from models.schema import FLAGS, Candidate, FeedbackEvent, Profile, category_of
from models.vocabulary import UNKNOWN, Vocabulary

VOCABULARY = Vocabulary(
    {
        "video_id": ["v1", "v2"],
        "author_id": ["x", "a1"],
        "tag": ["x", "y", "39"],
        "tab": ["1"],
        "profile.age": ["3", "old"],
    }
)
NOW = 1_000_000


def event(number: int = 0, **members: object) -> FeedbackEvent:
    known: dict[str, object] = {
        "event_id": str(number),
        "user_id": "u",
        "video_id": "v1",
        "timestamp_ms": number * 1000,
        "watch_time_s": 5.0,
        "duration_s": 10.0,
    }
    return FeedbackEvent(**known | members)  # type: ignore[arg-type]


def layout(array: Array) -> tuple[tuple[int, ...], str]:
    return array.shape, array.dtype.name


EVENTS = st.lists(
    st.builds(
        event,
        st.integers(0, 5000),
        watch_time_s=st.floats(0, 100),
        duration_s=st.floats(0.001, 100),
        video_id=st.sampled_from(["v1", "v2", "new"]),
        author_id=st.sampled_from([None, "a1", "new"]),
        tag=st.sampled_from([None, "39", "new"]),
        tab=st.sampled_from([None, "1", "new"]),
        **dict.fromkeys(FLAGS, st.booleans()),
    ),
    max_size=12,
)


@given(events=EVENTS)
def test_every_column_holds_the_member_of_its_name(events: list[FeedbackEvent]) -> None:
    matrix = feedback_matrix(events)
    assert layout(matrix) == ((len(events), 8), "float32")
    for column, name in enumerate(FEEDBACK_COLUMNS):
        want = np.array([getattr(e, name) for e in events], np.float32)
        np.testing.assert_array_equal(matrix[:, column], want)


def test_each_flag_has_its_own_column() -> None:
    matrix = feedback_matrix([event(**{flag: True}) for flag in FLAGS])
    np.testing.assert_array_equal(matrix[:, 2:], np.eye(len(FLAGS), dtype=np.float32))


@given(events=EVENTS)
def test_a_sequence_has_a_step_an_event_in_the_order_given(events: list[FeedbackEvent]) -> None:
    arrays = sequence_arrays(Exposures.from_events(events), VOCABULARY, NOW)
    steps = len(events)
    assert {name: layout(array) for name, array in arrays.items()} == {
        "sequence_ids": ((1, steps, 4), "int64"),
        "sequence_feedback": ((1, steps, 8), "float32"),
        "sequence_age_s": ((1, steps), "float32"),
    }
    np.testing.assert_array_equal(arrays["sequence_feedback"][0], feedback_matrix(events))
    for column, name in enumerate(SEQUENCE_ID_COLUMNS):
        want = VOCABULARY.encode(name, [getattr(e, name) for e in events])
        np.testing.assert_array_equal(arrays["sequence_ids"][0, :, column], want)


def test_age_is_seconds_until_now_and_never_negative() -> None:
    events = [event(timestamp_ms=NOW - 61_500), event(timestamp_ms=NOW), event(timestamp_ms=NOW + 5000)]
    arrays = sequence_arrays(Exposures.from_events(events), VOCABULARY, NOW)
    assert arrays["sequence_age_s"].tolist() == [[61.5, 0.0, 0.0]]


def test_no_step_of_a_sequence_looks_like_padding() -> None:
    ids = sequence_arrays(Exposures.from_events([event(video_id="never seen")]), VOCABULARY, NOW)[
        "sequence_ids"
    ]
    assert ids.tolist() == [[[UNKNOWN] * 4]]


def test_a_history_is_what_was_imported_and_then_the_long_views_and_likes_of_older_events() -> None:
    older = [
        event(video_id="v2", watch_time_s=17.9, duration_s=20),
        event(video_id="new", watch_time_s=18, duration_s=600, like=True),
        event(video_id="v1", watch_time_s=5, duration_s=5),
    ]
    imported = HistoryEntries(["v1", "gone"], np.array([[1, 0], [0, 1]], np.float32))
    arrays = history_arrays(Exposures.from_events(older), imported, VOCABULARY)
    assert HISTORY_COLUMNS == ("long_view", "like")
    assert arrays["history_ids"].tolist() == [[2, UNKNOWN, 3, UNKNOWN, 2]]
    assert arrays["history_feedback"].tolist() == [[[1, 0], [0, 1], [0, 0], [1, 1], [1, 0]]]


@given(count=st.integers(0, HISTORY_LENGTH + 9), imported=st.integers(0, 9))
def test_a_history_keeps_the_newest_entries(count: int, imported: int) -> None:
    entries = HistoryEntries(["v2"] * imported, np.ones((imported, 2), np.float32))
    arrays = history_arrays(Exposures.from_events([event()] * count), entries, VOCABULARY)
    length = min(count + imported, HISTORY_LENGTH)
    assert {name: layout(array) for name, array in arrays.items()} == {
        "history_ids": ((1, length), "int64"),
        "history_feedback": ((1, length, 2), "float32"),
    }
    assert (arrays["history_ids"] == 2).sum() == min(count, HISTORY_LENGTH)


@given(events=EVENTS, count=st.integers(0, 14))
def test_the_newest_and_the_older_exposures_are_all(events: list[FeedbackEvent], count: int) -> None:
    exposures = Exposures.from_events(events)
    parts = exposures.older(count), exposures.newest(count)
    assert len(parts[1]) == min(count, len(events))
    for name in Exposures.__slots__:
        joined = [value for part in parts for value in getattr(part, name)]
        np.testing.assert_array_equal(joined, list(getattr(exposures, name)))


def test_candidates_keep_their_order_and_an_unknown_duration_is_nan() -> None:
    arrays = candidate_arrays(
        Candidates.from_rows(
            [Candidate(video_id="v2", duration_s=7.5, author_id="a1", tag="39"), Candidate(video_id="new")]
        ),
        VOCABULARY,
    )
    assert CANDIDATE_ID_COLUMNS == ("video_id", "author_id", "tag")
    assert arrays["candidate_ids"].tolist() == [[[3, 3, 4], [1, 1, 1]]]
    np.testing.assert_array_equal(arrays["candidate_duration_s"], np.array([[7.5, np.nan]], np.float32))


def test_nothing_to_rank_has_shapes_too() -> None:
    arrays = candidate_arrays(Candidates.from_rows([]), VOCABULARY)
    assert layout(arrays["candidate_ids"]) == ((1, 0, 3), "int64")
    assert layout(arrays["candidate_duration_s"]) == ((1, 0), "float32")


def test_the_context_follows_the_manifests_order_and_unknown_is_nan_or_the_unknown_row() -> None:
    profile: Profile = {"fans": 12, "age": 3.0, "city": "x", "not declared": 1.0}
    arrays = context_arrays(profile, "1", VOCABULARY, ["days", "fans"], ["age"])
    assert arrays["context_ids"].tolist() == [[2]]
    np.testing.assert_array_equal(arrays["profile"], np.array([[np.nan, 12]], np.float32))
    assert arrays["profile_ids"].tolist() == [[2]]
    empty = context_arrays({}, None, VOCABULARY, ["fans"], ["age"])
    assert np.isnan(empty["profile"]).all()
    assert (empty["context_ids"].tolist(), empty["profile_ids"].tolist()) == ([[UNKNOWN]], [[UNKNOWN]])


def test_the_groups_of_an_exposure_are_its_tag_and_its_users_first_category() -> None:
    events = [
        event(user_id=user, tag=tag)
        for user, tag in [("ann", "39"), ("bob", None), ("cy", "new"), ("ann", "x"), ("no profile", "y")]
    ]
    profiles: dict[str, Profile] = {"ann": {"age": 3.0, "city": "old"}, "bob": {"age": "old"}, "cy": {}}
    got = group_ids(events, VOCABULARY, profiles, ["age", "city"])
    assert GROUP_COLUMNS == ("tag", "user_group")
    assert layout(got) == ((5, 2), "int64")
    assert got.tolist() == [[4, 2], [UNKNOWN, 3], [UNKNOWN, UNKNOWN], [2, 2], [3, UNKNOWN]]


@given(events=EVENTS)
def test_without_categories_every_user_is_of_no_known_group(events: list[FeedbackEvent]) -> None:
    got = group_ids(events, VOCABULARY, {"u": {"age": 3}}, [])
    assert layout(got) == ((len(events), 2), "int64")
    np.testing.assert_array_equal(got[:, 0], VOCABULARY.encode("tag", [e.tag for e in events]))
    assert (got[:, 1] == UNKNOWN).all()


def test_a_bundle_without_profile_features_still_gets_both_arrays() -> None:
    arrays = context_arrays({"age": 3}, "9", VOCABULARY, [], [])
    assert layout(arrays["profile"]) == ((1, 0), "float32")
    assert layout(arrays["profile_ids"]) == ((1, 0), "int64")
    assert arrays["context_ids"].tolist() == [[UNKNOWN]]


@pytest.mark.parametrize("value", ["many", "", 1e39, -1e300, float("inf"), float("nan")])
def test_what_a_float32_cannot_hold_is_unknown(value: float | str) -> None:
    assert np.isnan(context_arrays({"fans": value}, None, VOCABULARY, ["fans"], [])["profile"]).all()


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (3.0, "3"), ("3", "3"), (-0.0, "0"), (2.5, "2.5"), ("3.0", "3.0"), ("", "")]
)
def test_a_category_is_spelt_one_way(value: float | str, text: str) -> None:
    assert category_of(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_a_category_that_is_no_category_is_unknown_and_no_error(value: float) -> None:
    assert context_arrays({"age": value}, None, VOCABULARY, [], ["age"])["profile_ids"].tolist() == [
        [UNKNOWN]
    ]


def test_another_column_order_has_another_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = columns_digest(grouped=True, reads_history=True)
    others = {columns_digest(), columns_digest(grouped=True), columns_digest(reads_history=True), ours}
    assert len(others) == 4
    for name in (
        "FEEDBACK_COLUMNS",
        "SEQUENCE_ID_COLUMNS",
        "CANDIDATE_ID_COLUMNS",
        "GROUP_COLUMNS",
        "HISTORY_COLUMNS",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(models.features, name, getattr(models.features, name)[::-1])
            assert columns_digest(grouped=True, reads_history=True) != ours


def test_a_bundle_without_groups_has_the_digest_it_had_before_there_were_any() -> None:
    assert columns_digest() == "5fd4fb9c3e1c4bde"


def test_a_hated_exposure_counts_as_neither_watched_nor_liked_in_a_history() -> None:
    watched_and_liked = np.array([60.0, 60.0, 1, 0, 0, 0, 0, 0], np.float32)
    hated = watched_and_liked.copy()
    hated[FEEDBACK_COLUMNS.index("hate")] = 1
    assert history_feedback(np.stack([watched_and_liked, hated])).tolist() == [[1.0, 1.0], [0.0, 0.0]]
