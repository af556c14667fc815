"""Protocols deal out each row once, by their own rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import BadInput
from tests.training.kuairec_csv import big, row, small
from tests.training.kuairec_csv import write as write_kuairec
from tests.training.wechat_csv import action
from tests.training.wechat_csv import write as write_wechat
from training.data import DAY_MS, Interactions, day_to_ms, load, ms_to_day, prepare
from training.data import _published_splits as protocols
from training.data._published_splits import Parts

BIG, SMALL = 2, 3
WECHAT_MS = day_to_ms("2021-01-01", 0.0)
KUAIRAND_MS = day_to_ms("2022-04-06", 8.0)


def log_of(n: int, seed: int, begin_ms: int, days: int) -> Interactions:
    """Rows at random over whole days: lengths from 1 to 500 s, watched not at all, in part, fully, often."""
    random = np.random.default_rng(seed)
    user = random.integers(0, 5, n)
    ids = np.stack([random.integers(2, 30, n), *random.integers(1, 4, (2, n))], 1)
    ids = np.c_[ids, random.integers(BIG, SMALL + 1, n)].astype(np.int64)
    time = begin_ms + random.integers(0, days, n) * DAY_MS + random.integers(0, DAY_MS, n)
    feedback = np.zeros((n, 8), np.float32)
    feedback[:, 1] = np.exp(random.uniform(0, np.log(500), n))
    feedback[:, 0] = feedback[:, 1] * random.choice([0.0, 0.3, 1.0, 2.5, 12.0], n)
    order = np.lexsort((ids[:, 0], time, user))
    return Interactions(
        user=user[order].astype(np.int64),
        ids=ids[order],
        timestamp_ms=time[order].astype(np.int64),
        feedback=feedback[order],
        user_ids=tuple("abcde"),
        profile=np.zeros((5, 0), np.float32),
        profile_ids=np.zeros((5, 0), np.int64),
        history_ids=np.zeros((5, 0), np.int64),
        history_feedback=np.zeros((5, 0, 2), np.float32),
    )


PROTOCOLS: dict[str, tuple[Callable[[Interactions], Parts], int, int]] = {
    "kuairec_random": (protocols.kuairec_random, KUAIRAND_MS, 60),
    "kuairec_matrices": (lambda log: protocols.kuairec_matrices(log, big=BIG, small=SMALL), KUAIRAND_MS, 60),
    "kuairec_chronological": (protocols.kuairec_chronological, KUAIRAND_MS, 60),
    "wechat_random": (protocols.wechat_random, WECHAT_MS, 14),
    "wechat_days": (protocols.wechat_days, WECHAT_MS, 14),
    "cwm_kuairand": (protocols.cwm_kuairand, KUAIRAND_MS, 40),
    "cwm_wechat": (protocols.cwm_wechat, WECHAT_MS, 14),
}
"""Each with the first day and the number of days of a log it is for."""

every = pytest.mark.parametrize("name", PROTOCOLS)
SEEDS = st.integers(0, 10**6)


def dealt(name: str, seed: int, n: int = 400) -> tuple[Interactions, Parts]:
    protocol, begin_ms, days = PROTOCOLS[name]
    log = log_of(n, seed, begin_ms, days)
    return log, protocol(log)


def test_every_protocol_of_the_module_is_tested_here() -> None:
    assert set(PROTOCOLS) == set(protocols.__all__) - {"Parts", "Protocol", "advertisements", "cut"}


@every
@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_parts_are_ascending_and_have_no_row_in_common(name: str, seed: int) -> None:
    log, parts = dealt(name, seed)
    rows = np.concatenate([parts.train, parts.stop, parts.test])
    assert len(np.unique(rows)) == len(rows)
    assert rows.min() >= 0
    assert rows.max() < len(log) == len(parts.log)
    for part in parts[1:]:
        assert part.dtype == np.int64
        assert len(part)
        assert (np.diff(part) > 0).all()


@every
def test_the_log_given_is_not_changed(name: str) -> None:
    _, begin_ms, days = PROTOCOLS[name]
    log, _ = dealt(name, 3)
    assert (log.feedback == log_of(400, 3, begin_ms, days).feedback).all()


@every
def test_the_same_call_deals_the_same_rows(name: str) -> None:
    (_, one), (_, two) = dealt(name, 5), dealt(name, 5)
    assert all((a == b).all() for a, b in zip(one[1:], two[1:], strict=True))


@every
def test_a_log_without_rows_is_refused(name: str) -> None:
    protocol, begin_ms, days = PROTOCOLS[name]
    log = log_of(400, 0, begin_ms, days).take(np.zeros(0, np.int64))
    with pytest.raises(BadInput):
        protocol(log)


@pytest.mark.parametrize("name", ["wechat_days", "cwm_wechat", "cwm_kuairand"])
def test_a_log_of_other_days_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="is it another dataset"):
        PROTOCOLS[name][0](log_of(400, 0, day_to_ms("2020-07-05", 8.0), 30))


class TestWhichRowsStay:
    @given(seed=SEEDS)
    @settings(max_examples=20, deadline=None)
    def test_kuairec_at_random_keeps_what_is_watched_and_not_looped_ten_times(self, seed: int) -> None:
        log, parts = dealt("kuairec_random", seed)
        ratio = log.watch_time_s / log.duration_s
        want = np.flatnonzero((ratio > 0) & (ratio < 10))
        assert np.sort(np.concatenate(parts[1:])).tolist() == want.tolist()

    def test_advertisements_and_the_other_matrix_are_left_out(self) -> None:
        log = log_of(400, 0, KUAIRAND_MS, 60)
        is_advertisement = np.zeros(30, bool)
        is_advertisement[[4, 9]] = True
        parts = protocols.kuairec_random(log, main_tab=BIG, is_advertisement_V=is_advertisement)
        rows = np.concatenate(parts[1:])
        assert (log.ids[rows, 3] == BIG).all()
        assert not np.isin(log.ids[rows, 0], [4, 9]).any()
        without = np.concatenate(protocols.kuairec_random(log, main_tab=BIG)[1:])
        assert set(without) - set(rows) == {n for n in without if log.ids[n, 0] in (4, 9)} != set()

    @pytest.mark.parametrize("name", ["wechat_random", "wechat_days"])
    def test_wechat_keeps_what_is_watched(self, name: str) -> None:
        log, parts = dealt(name, 1)
        assert len(np.concatenate(parts[1:])) == (log.watch_time_s > 0).sum()

    @pytest.mark.parametrize(
        ("name", "low", "high"), [("cwm_kuairand", 4.5, 400.5), ("cwm_wechat", 4.5, 59.5)]
    )
    @given(seed=SEEDS)
    @settings(max_examples=10, deadline=None)
    def test_cwm_keeps_lengths_between_its_bounds(
        self, name: str, low: float, high: float, seed: int
    ) -> None:
        log, parts = dealt(name, seed)
        kept = np.zeros(len(log), bool)
        kept[np.concatenate(parts[1:])] = True
        assert (log.duration_s[kept] >= low).all()
        assert (log.duration_s[kept] <= high).all()
        days = np.array([ms_to_day(int(t), 8.0) for t in log.timestamp_ms])
        published = (days >= "2022-04-08") & (days <= "2022-05-08") if name == "cwm_kuairand" else True
        assert kept[(log.duration_s > low) & (log.duration_s < high) & published].all()

    @pytest.mark.parametrize(("duration", "stays"), [(5, True), (400, True), (4, False), (401, False)])
    def test_the_bounds_of_cwm_are_themselves_inside(self, duration: float, stays: bool) -> None:
        log, parts = dealt("cwm_kuairand", 0)
        row = parts.train[0]
        feedback = log.feedback.copy()
        feedback[row, 1] = duration
        assert (row in protocols.cwm_kuairand(replace(log, feedback=feedback)).train) == stays


class TestWhichPartTheyAreIn:
    @pytest.mark.parametrize("name", ["kuairec_random", "wechat_random"])
    @given(seed=SEEDS)
    @settings(max_examples=20, deadline=None)
    def test_at_random_the_shares_are_eight_one_and_one(self, name: str, seed: int) -> None:
        _, parts = dealt(name, seed)
        rows = sum(len(part) for part in parts[1:])
        assert len(parts.stop) == len(parts.test) == rows // 10

    def test_another_seed_draws_other_rows(self) -> None:
        log = log_of(400, 0, WECHAT_MS, 14)
        one, two = protocols.wechat_random(log, seed=1), protocols.wechat_random(log, seed=2)
        assert set(one.test) != set(two.test)
        assert set(np.concatenate(one[1:])) == set(np.concatenate(two[1:]))

    def test_at_random_every_day_is_in_every_part(self) -> None:
        log = log_of(5_000, 0, WECHAT_MS, 14)
        parts = protocols.wechat_random(log)
        for part in parts[1:]:
            assert len({ms_to_day(int(t), 0.0) for t in log.timestamp_ms[part]}) == 14

    @given(seed=SEEDS)
    @settings(max_examples=20, deadline=None)
    def test_in_time_no_row_lies_before_one_of_an_earlier_part(self, seed: int) -> None:
        log, parts = dealt("kuairec_chronological", seed)
        time = log.timestamp_ms
        assert time[parts.train].max() < time[parts.stop].min()
        assert time[parts.stop].max() < time[parts.test].min()
        assert [len(part) for part in parts[1:]] == [320, 40, 40]

    @pytest.mark.parametrize("name", ["wechat_days", "cwm_wechat"])
    def test_wechats_days_are_ten_two_and_two(self, name: str) -> None:
        log, parts = dealt(name, 2, n=3_000)
        days = [{int(ms_to_day(int(t), 0.0)[-2:]) for t in log.timestamp_ms[part]} for part in parts[1:]]
        assert days == [set(range(1, 11)), {11, 12}, {13, 14}]

    def test_cwms_days_of_kuairand_are_those_of_china(self) -> None:
        log, parts = dealt("cwm_kuairand", 2, n=5_000)
        first_last = [
            (ms_to_day(int(t.min()), 8.0), ms_to_day(int(t.max()), 8.0))
            for t in (log.timestamp_ms[part] for part in parts[1:])
        ]
        assert first_last == [
            ("2022-04-08", "2022-04-21"),
            ("2022-04-22", "2022-04-28"),
            ("2022-04-29", "2022-05-08"),
        ]

    def test_the_small_matrix_tests_and_nothing_else_does(self) -> None:
        log, parts = dealt("kuairec_matrices", 0)
        watched = log.watch_time_s > 0
        assert parts.test.tolist() == np.flatnonzero(watched & (log.ids[:, 3] == SMALL)).tolist()
        known = np.flatnonzero(watched & (log.ids[:, 3] == BIG))
        assert np.sort(np.concatenate([parts.train, parts.stop])).tolist() == known.tolist()
        assert len(parts.stop) == len(known) // 10


class TestWhatIsWatched:
    @pytest.mark.parametrize("name", ["kuairec_random", "kuairec_matrices", "wechat_random", "wechat_days"])
    def test_most_protocols_leave_watch_times_alone(self, name: str) -> None:
        log, parts = dealt(name, 0)
        assert parts.log is log

    def test_in_time_seconds_end_at_sixty(self) -> None:
        log, parts = dealt("kuairec_chronological", 0)
        assert parts.log.watch_time_s.tolist() == np.minimum(log.watch_time_s, 60).tolist()
        assert (log.watch_time_s > 60).any()
        assert (parts.log.feedback[:, 1:] == log.feedback[:, 1:]).all()

    @pytest.mark.parametrize("name", ["cwm_kuairand", "cwm_wechat"])
    def test_for_cwm_seconds_end_with_the_video(self, name: str) -> None:
        log, parts = dealt(name, 0)
        assert (parts.log.watch_time_s == np.minimum(log.watch_time_s, log.duration_s)).all()
        assert (log.watch_time_s > log.duration_s).any()


class TestOnWhatReadersMake:
    def test_kuairecs_advertisements_and_matrices_are_found(self, tmp_path: Path) -> None:
        rows = [*big(), *(row(m % 2, m % 3, 100 + m) for m in range(40))]
        prepare(
            "kuairec", write_kuairec(tmp_path / "k", big=rows, small=small()), tmp_path / "d", progress=False
        )
        data = load(tmp_path / "d")
        vocabulary = data.vocabulary()
        log = data.interactions(vocabulary)
        is_advertisement = protocols.advertisements(data, vocabulary)
        assert is_advertisement.nonzero()[0].tolist() == [vocabulary.index("video_id", "2")]
        tabs = {name: vocabulary.index("tab", f"{name}_matrix") for name in ("big", "small")}
        parts = protocols.kuairec_random(log, main_tab=tabs["big"], is_advertisement_V=is_advertisement)
        assert sum(map(len, parts[1:])) == sum(int(str(r["video_id"])) < 2 for r in rows)
        assert len(protocols.kuairec_matrices(log, **tabs).test) == 3

    def test_a_data_set_without_an_advertisement_column_has_none(self, tmp_path: Path) -> None:
        prepare("wechat", write_wechat(tmp_path / "w"), tmp_path / "d", progress=False)
        data = load(tmp_path / "d")
        assert not protocols.advertisements(data, data.vocabulary()).any()

    def test_wechats_days_are_those_of_the_file(self, tmp_path: Path) -> None:
        rows = [action(day % 3, day % 3, day, play=4_000 + day) for day in range(1, 15)]
        prepare("wechat", write_wechat(tmp_path / "w", rows), tmp_path / "d", progress=False)
        data = load(tmp_path / "d")
        log = data.interactions(data.vocabulary())
        for protocol in (protocols.wechat_days, protocols.cwm_wechat):
            found = [sorted(np.rint(log.watch_time_s[part] * 1000 - 4_000)) for part in protocol(log)[1:]]
            assert found == [list(range(1, 11)), [11, 12], [13, 14]]
