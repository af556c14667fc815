"""Splits by time cover every row once, and never let the future into the past."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadInput
from training.data import Boundaries, day_to_ms, ms_to_day, split_by_time

TIMES = st.lists(st.integers(0, 10**13), max_size=60)
MOMENTS = st.lists(st.integers(0, 10**13), min_size=3, max_size=3).map(sorted)
DATES = st.dates(date(1970, 1, 2), date(2100, 1, 1)).map(date.isoformat)
OFFSETS = st.sampled_from([-11.0, -3.5, 0.0, 5.75, 8.0, 14.0])


@given(TIMES, MOMENTS)
def test_every_row_is_in_exactly_one_window(times: list[int], moments: list[int]) -> None:
    split = split_by_time(np.array(times, np.int64), Boundaries(*moments))
    rows = np.concatenate([split.train, split.meta, split.early_stop, split.test])
    assert sorted(rows.tolist()) == list(range(len(times)))


@given(TIMES, MOMENTS)
def test_each_window_lies_wholly_before_the_next(times: list[int], moments: list[int]) -> None:
    timestamp_ms = np.array(times, np.int64)
    split = split_by_time(timestamp_ms, Boundaries(*moments))
    meta, early, test = moments
    assert (timestamp_ms[split.train] < meta).all()
    assert ((timestamp_ms[split.meta] >= meta) & (timestamp_ms[split.meta] < early)).all()
    assert ((timestamp_ms[split.early_stop] >= early) & (timestamp_ms[split.early_stop] < test)).all()
    assert (timestamp_ms[split.test] >= test).all()


@given(TIMES, MOMENTS)
def test_rows_of_a_window_are_ascending(times: list[int], moments: list[int]) -> None:
    split = split_by_time(np.array(times, np.int64), Boundaries(*moments))
    for rows in (split.train, split.meta, split.early_stop, split.test):
        assert (np.diff(rows) > 0).all()


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=200), st.integers(0, 40), st.integers(0, 30))
def test_shares_hold_at_least_what_was_asked(times: list[int], meta: int, test: int) -> None:
    timestamp_ms = np.array(times, np.int64)
    boundaries = Boundaries.at_shares(timestamp_ms, meta=meta / 100, early_stop=0.1, test=test / 100)
    split = split_by_time(timestamp_ms, boundaries)
    assert len(split.test) >= np.floor(test / 100 * len(times))
    assert len(split.test) + len(split.early_stop) >= np.floor((test + 10) / 100 * len(times))


def test_shares_of_distinct_times_are_exact() -> None:
    times = np.random.default_rng(0).permutation(1_000).astype(np.int64)
    split = split_by_time(times, Boundaries.at_shares(times, meta=0.2, early_stop=0.1, test=0.15))
    assert [len(split.train), len(split.meta), len(split.early_stop), len(split.test)] == [550, 200, 100, 150]


@pytest.mark.parametrize("shares", [(0.5, 0.3, 0.2), (-0.1, 0.1, 0.1), (0.0, 1.2, 0.0)])
def test_shares_that_leave_nothing_to_train_on_are_refused(shares: tuple[float, float, float]) -> None:
    with pytest.raises(BadInput, match="sum to less than 1"):
        Boundaries.at_shares(np.arange(10), meta=shares[0], early_stop=shares[1], test=shares[2])


def test_windows_out_of_order_are_refused() -> None:
    with pytest.raises(BadInput, match="follow each other"):
        Boundaries.at_days("2022-05-04", "2022-05-03", "2022-05-05", utc_offset_hours=8)


def test_a_day_begins_at_midnight_of_the_data_sets_zone() -> None:
    assert day_to_ms("2022-05-04", 8) == 1_651_593_600_000  # 2022-05-03T16:00:00Z
    assert day_to_ms("2022-05-04", 0) == 1_651_622_400_000


@given(DATES, OFFSETS)
def test_days_and_moments_are_inverse(day: str, offset: float) -> None:
    midnight = day_to_ms(day, offset)
    assert ms_to_day(midnight, offset) == day
    assert ms_to_day(midnight + 86_399_999, offset) == day
    before = (date.fromisoformat(day) - timedelta(days=1)).isoformat()
    assert ms_to_day(midnight - 1, offset) == before


@pytest.mark.parametrize("text", ["", "yesterday", "2022-13-01", "04/05/2022", "2022-05-04T00:00"])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="YYYY-MM-DD"):
        day_to_ms(text, 0)


def test_the_last_days_are_whole_days_of_the_data_sets_own_zone() -> None:
    first, last = day_to_ms("2022-04-24", 8.0) + 5, day_to_ms("2022-05-05", 8.0) + 86_399_999
    at = Boundaries.at_last_days(first, last, meta_days=1, stop_days=2, test_days=3, utc_offset_hours=8.0)
    moments = (at.meta_ms, at.early_stop_ms, at.test_ms)
    assert [ms_to_day(m, 8.0) for m in moments] == ["2022-04-30", "2022-05-01", "2022-05-03"]
    assert moments == tuple(day_to_ms(day, 8.0) for day in ("2022-04-30", "2022-05-01", "2022-05-03"))


def test_last_days_that_leave_nothing_to_train_on_are_refused() -> None:
    first, last = day_to_ms("2022-05-01", 8.0), day_to_ms("2022-05-06", 8.0) + 1
    Boundaries.at_last_days(first, last, meta_days=1, stop_days=2, test_days=2, utc_offset_hours=8.0)
    with pytest.raises(BadInput, match="spans 6 days, 7 are needed"):
        Boundaries.at_last_days(first, last, meta_days=2, stop_days=2, test_days=2, utc_offset_hours=8.0)
