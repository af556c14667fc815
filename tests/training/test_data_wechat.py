"""The WeChat challenge in its published layout: what is read, and what is refused with which words."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training import _readers
from tests.training.wechat_csv import ACTIONS, action, actions, feed, write
from training.data import DAY_MS, day_to_ms

DAY_1_MS = day_to_ms("2021-01-01", 0.0)

prepared = partial(_readers.prepared, "wechat")
refusal = partial(_readers.refusal, "wechat")


class TestWhatIsRead:
    def test_play_is_milliseconds_and_the_length_is_seconds(self, tmp_path: Path) -> None:
        rows = [action(3, 1, 14, play=12_500, like=1, click_avatar=1, forward=1, favorite=1, read_comment=1)]
        log = prepared(write(tmp_path / "w", rows), tmp_path / "out").log
        assert log.row(0, named=True) == {
            "user_id": "3",
            "video_id": "1",
            "timestamp_ms": day_to_ms("2021-01-14", 0.0),
            "watch_time_s": 12.5,
            "duration_s": 10.0,
            "like": True,
            "follow": False,
            "comment": False,
            "forward": True,
            "hate": False,
            "profile_enter": True,
            "tab": None,
            "author_id": "71",
            "tag": "12",
        }

    def test_the_note_names_the_invented_clock_and_of_no_licence(self, tmp_path: Path) -> None:
        info = prepared(write(tmp_path / "w"), tmp_path / "out").info
        assert info.days == ("2021-01-01", "2021-01-02", "2021-01-03")
        assert "timestamps follow the order of the file" in info.notes[0]
        assert "none published" in info.licence
        assert info.main_tab is None

    def test_the_device_of_the_first_row_is_the_profile(self, tmp_path: Path) -> None:
        rows = [action(0, 0, 1, device=2), action(0, 1, 2, device=1), action(1, 1, 1, device=1)]
        data = prepared(write(tmp_path / "w", rows), tmp_path / "out")
        assert data.tables.users.rows() == [("0", "2"), ("1", "1")]
        assert data.profile_categories == ("device",)

    def test_copies_and_feeds_without_a_length_are_dropped_and_counted(self, tmp_path: Path) -> None:
        rows = [*actions(), actions()[0], action(0, 9, 1), action(1, 2, 1, play=1)]
        feeds = [feed(0), feed(1), feed(2, videoplayseconds=0)]
        counts = prepared(write(tmp_path / "w", rows, feeds), tmp_path / "out").info.rows
        assert counts.read == counts.kept + sum(counts.dropped.values()) == 15
        assert counts.dropped == {"exact_duplicate": 1, "no_duration": 6}

    def test_a_feed_table_of_lengths_alone_is_enough(self, tmp_path: Path) -> None:
        source = write(tmp_path / "w")
        path = source / "feed_info.csv"
        pl.read_csv(path).select("feedid", "videoplayseconds").write_csv(path)
        log = prepared(source, tmp_path / "out").log
        assert log["tag"].null_count() == log["author_id"].null_count() == len(log) == 12

    def test_a_day_with_more_rows_than_seconds_stays_a_day(self, tmp_path: Path) -> None:
        rows = pl.DataFrame([action(0, 0, 2)]).drop("play").join(
            pl.DataFrame({"play": range(100_000)}), how="cross"
        )  # fmt: skip
        source = write(tmp_path / "w")
        rows.select(ACTIONS).write_csv(source / "user_action.csv")
        data = prepared(source, tmp_path / "out")
        assert data.info.days == ("2021-01-02",)
        assert data.log["timestamp_ms"].is_sorted()
        assert data.log["watch_time_s"].is_sorted()


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(1, 14)), min_size=1, max_size=25))
def test_days_are_kept_and_within_them_the_order_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("wechat")
    # the n-th row is watched for 4 s and n ms, so that rows can be told apart afterwards
    written = [action(user, feed, day, play=4_000 + n) for n, (user, feed, day) in enumerate(rows)]
    log = prepared(write(folder / "w", written), folder / "out").log
    place = np.round(log["watch_time_s"].to_numpy() * 1000 - 4_000).astype(int)
    day = (log["timestamp_ms"].to_numpy() - DAY_1_MS) // DAY_MS + 1
    assert day.tolist() == [rows[n][2] for n in place]
    for user in range(3):
        mine = (log["user_id"] == str(user)).to_numpy()
        times = log["timestamp_ms"].to_numpy()[mine]
        assert (np.diff(times) > 0).all()
        want = sorted((n for n, r in enumerate(rows) if r[0] == user), key=lambda n: (rows[n][2], n))
        assert place[mine].tolist() == want


class TestWhatIsRefused:
    def test_no_source_at_all(self, tmp_path: Path) -> None:
        assert "--source DIR" in refusal(None, tmp_path / "out")
        assert "is not a folder with user_action" in refusal(tmp_path / "nowhere", tmp_path / "out")

    @pytest.mark.parametrize("name", ["user_action", "feed_info"])
    def test_a_missing_file(self, tmp_path: Path, name: str) -> None:
        source = write(tmp_path / "w")
        (source / f"{name}.csv").unlink()
        message = refusal(source, tmp_path / "out")
        assert f"no {name}" in message
        assert "give the folder" in message

    def test_feeds_without_their_length(self, tmp_path: Path) -> None:
        source = write(tmp_path / "w")
        path = source / "feed_info.csv"
        pl.read_csv(path).drop("videoplayseconds").write_csv(path)
        assert "feed_info.csv lacks the column `videoplayseconds`" in refusal(source, tmp_path / "out")

    def test_a_log_of_other_feeds(self, tmp_path: Path) -> None:
        assert "no row of user_action" in refusal(write(tmp_path / "w", [action(0, 9, 1)]), tmp_path / "out")

    @pytest.mark.parametrize("play", [4, 4_000_000])
    def test_watch_times_that_are_no_milliseconds(self, tmp_path: Path, play: int) -> None:
        message = refusal(write(tmp_path / "w", [action(0, 0, 1, play=play)]), tmp_path / "out")
        assert "`play` must be milliseconds and `videoplayseconds` seconds" in message

    def test_lengths_that_are_no_seconds(self, tmp_path: Path) -> None:
        feeds = [feed(v, videoplayseconds=10_000) for v in range(3)]
        message = refusal(write(tmp_path / "w", feeds=feeds), tmp_path / "out")
        assert "`play` must be milliseconds and `videoplayseconds` seconds" in message

    def test_a_feed_listed_twice(self, tmp_path: Path) -> None:
        source = write(tmp_path / "w", feeds=[feed(0), feed(1), feed(0)])
        assert "feed_info.csv, row 3: `feedid` is listed twice" in refusal(source, tmp_path / "out")
