"""Histories are what a user did strictly before, no more and no less."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.arrays import I64
from models.features import HISTORY_LENGTH
from models.signals import Signals
from models.vocabulary import PADDING, UNKNOWN
from tests.training._builders import log_of, logs


@given(logs, st.integers(0, 6))
@settings(max_examples=150, deadline=None)
def test_a_history_is_the_newest_rows_of_the_user_strictly_before(
    drawn: tuple[list[int], list[int], int], length: int
) -> None:
    log = log_of(*drawn)
    rows: I64 = np.arange(len(log), dtype=np.int64)
    got = log.history(rows, length)
    for row in rows:
        mine = (log.user == log.user[row]) & (log.timestamp_ms < log.timestamp_ms[row])
        before = np.flatnonzero(mine)[::-1][:length][::-1]
        steps = len(before)
        ids = got.sequence_ids[row]
        assert (ids[: len(ids) - steps] == PADDING).all()
        np.testing.assert_array_equal(ids[len(ids) - steps :], log.ids[before])
        kept = slice(len(ids) - steps, None)
        np.testing.assert_array_equal(got.sequence_feedback[row][kept], log.feedback[before])
        age = (log.timestamp_ms[row] - log.timestamp_ms[before]) / 1000
        np.testing.assert_allclose(got.sequence_age_s[row][kept], age, rtol=1e-6)


@given(logs, st.integers(0, 6))
@settings(max_examples=150, deadline=None)
def test_what_is_older_than_the_sequence_is_history_and_before_it_what_was_before_the_log(
    drawn: tuple[list[int], list[int], int], length: int
) -> None:
    log = log_of(*drawn)
    rows: I64 = np.arange(len(log), dtype=np.int64)
    got = log.history(rows, length)
    for row in rows:
        mine = (log.user == log.user[row]) & (log.timestamp_ms < log.timestamp_ms[row])
        older = np.flatnonzero(mine)[: max(mine.sum() - length, 0)]
        known = log.history_ids[log.user[row]] != PADDING
        ids = [*log.history_ids[log.user[row]][known], *log.ids[older, 0]][-HISTORY_LENGTH:]
        watched, seconds, like = log.feedback[older][:, :3].T
        flags = np.c_[watched >= np.minimum(seconds, 18), like] * (1 - log.hate[older, None])
        flags = np.concatenate([log.history_feedback[log.user[row]][known], flags])[-HISTORY_LENGTH:]
        padding = got.history_ids.shape[1] - len(ids)
        assert got.history_ids[row].tolist() == [PADDING] * padding + ids
        np.testing.assert_array_equal(got.history_feedback[row][padding:], flags)
        assert (got.history_feedback[row][:padding] == 0).all()


def test_a_row_never_sees_its_own_feedback() -> None:
    log = log_of([0, 0, 0, 1], [1, 2, 3, 2])
    row = np.array([1], np.int64)
    changed = log.feedback.copy()
    changed[1] += 1
    for length in (10, 0):
        before, after = log.history(row, length), replace(log, feedback=changed).history(row, length)
        np.testing.assert_array_equal(before.sequence_feedback, after.sequence_feedback)
        np.testing.assert_array_equal(before.history_feedback, after.history_feedback)


@given(logs, st.data())
@settings(max_examples=150, deadline=None)
def test_a_window_begins_for_a_user_with_the_first_of_its_rows(
    drawn: tuple[list[int], list[int], int], data: st.DataObject
) -> None:
    log = log_of(*drawn)
    rows = np.array(data.draw(st.permutations(range(len(log)))), np.int64)
    rows = rows[: data.draw(st.integers(0, len(log)))]
    found = log.first_among(rows)
    for row, first in zip(rows, found, strict=True):
        assert first == min(other for other in rows if log.user[other] == log.user[row])


def test_no_row_asks_for_no_history() -> None:
    log = log_of([0, 0], [1, 2])
    assert log.history(np.zeros(0, np.int64), 10).sequence_ids.shape == (0, 0, 4)


def test_explicit_feedback_is_like_follow_comment_or_forward_alone() -> None:
    log = log_of([0] * 6, list(range(6)))
    only = np.zeros((6, 8), np.float32)
    only[:, 1] = 10
    only[np.arange(6), 2 + np.arange(6)] = 1
    assert replace(log, feedback=only).explicit.tolist() == [1, 1, 1, 1, 0, 0]


def test_groups_are_the_tag_and_the_users_first_category() -> None:
    log = log_of([0, 0, 1, 2], [1, 2, 3, 4])
    log = replace(log, profile_ids=np.array([[4, 9], [1, 9], [3, 9]]))
    assert log.groups.tolist() == [[log.ids[i, 2], group] for i, group in enumerate((4, 4, 1, 3))]
    assert log.groups.dtype == np.int64
    assert log.take(np.array([1, 3])).groups.tolist() == log.groups[[1, 3]].tolist()
    without = replace(log, profile_ids=np.zeros((3, 0), np.int64))
    assert without.groups.tolist() == [[tag, UNKNOWN] for tag in log.ids[:, 2]]


def test_rows_out_of_order_are_refused() -> None:
    log = log_of([0, 0], [1, 2])
    with pytest.raises(ValueError, match="sorted by"):
        replace(log, timestamp_ms=log.timestamp_ms[::-1])


def test_signals_are_laid_out_as_others_have_them() -> None:
    log = log_of([0, 0, 1], [1, 2, 3]).with_signals(Signals(positive=("a", "b"), numbers=("n",)))
    log.feedback[:, 8:] = np.arange(9).reshape(3, 3)
    other = log.with_signals(Signals(positive=("b", "c"), negative=("a",)))
    np.testing.assert_array_equal(other.feedback[:, :8], log.feedback[:, :8])
    np.testing.assert_array_equal(other.feedback[:, 8:], [[1, 0, 0], [4, 0, 3], [7, 0, 6]])
