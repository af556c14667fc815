"""KuaiRec in its published layout: what is read, and what is refused with which words."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import polars as pl
import pytest

from models.errors import BadInput
from tests.training import _readers
from tests.training.kuairec_csv import big, row, small, write
from training.labels import EF, PCR

prepared = partial(_readers.prepared, "kuairec")
refusal = partial(_readers.refusal, "kuairec")


class TestWhatIsRead:
    def test_milliseconds_become_seconds_and_seconds_milliseconds(self, tmp_path: Path) -> None:
        rows = [row(1, 1, 0, play_duration=24_600, video_duration=12_300)]
        log = prepared(write(tmp_path / "k", big=rows), tmp_path / "out").log
        assert log.row(0, named=True) == {
            "user_id": "1",
            "video_id": "1",
            "timestamp_ms": 1_593_878_903_438,
            "watch_time_s": 24.6,
            "duration_s": 12.3,
            **dict.fromkeys(("like", "follow", "comment", "forward", "hate", "profile_enter"), False),
            "tab": "big_matrix",
            "author_id": "51",
            "tag": "27",
        }

    def test_the_note_says_where_it_is_from_and_what_it_lacks(self, tmp_path: Path) -> None:
        info = prepared(write(tmp_path / "k", big=big(), small=small()), tmp_path / "out").info
        assert (info.dataset, info.licence, info.main_tab) == ("kuairec", "CC BY-SA 4.0", "big_matrix")
        assert "10.1145/3511808.3557220" in info.citation
        assert info.days == ("2020-07-05",), "days are China's"
        assert "No explicit feedback" in info.notes[0]
        assert info.rows.model_dump() == {
            "read": 12,
            "kept": 11,
            "dropped": {"no_timestamp": 1, "exact_duplicate": 0, "logged_twice": 0, "no_duration": 0},
        }

    def test_the_two_matrices_are_kept_apart(self, tmp_path: Path) -> None:
        log = prepared(write(tmp_path / "k", big=big(), small=small()), tmp_path / "out").log
        assert log["tab"].value_counts().sort("tab").rows() == [("big_matrix", 8), ("small_matrix", 3)]

    def test_the_small_matrix_alone_is_a_log_of_its_own(self, tmp_path: Path) -> None:
        data = prepared(write(tmp_path / "k", small=small()), tmp_path / "out")
        assert (len(data.log), data.info.main_tab) == (3, "small_matrix")

    def test_copies_are_dropped_and_every_row_is_accounted_for(self, tmp_path: Path) -> None:
        rows = [
            *big(),
            big()[-1],
            row(0, 0, 20, play_duration=3_000),
            row(0, 0, 20, play_duration=9_000),
            row(1, 1, 21, video_duration=0),
        ]
        data = prepared(write(tmp_path / "k", big=rows), tmp_path / "out")
        assert data.info.rows.dropped == {
            "no_timestamp": 0,
            "exact_duplicate": 1,
            "logged_twice": 1,
            "no_duration": 1,
        }
        assert data.info.rows.read == data.info.rows.kept + sum(data.info.rows.dropped.values()) == 12
        assert data.log["watch_time_s"].to_list()[-1] == 9.0

    def test_tables_beside_the_log_give_tags_authors_advertisements_and_profiles(
        self, tmp_path: Path
    ) -> None:
        data = prepared(write(tmp_path / "k", big=big()), tmp_path / "out")
        assert data.tables.videos.rows() == [
            ("0", 10.0, "50", "8", "8", "NORMAL"),
            ("1", 10.0, "51", "27", "27,9", "NORMAL"),
            ("2", 10.0, "52", "9", "9", "AD"),
        ]
        assert data.tables.users["onehot_feat4"].to_list() == ["2", "2"]
        assert data.profile_numbers == (
            "follow_user_num",
            "fans_user_num",
            "friend_user_num",
            "register_days",
        )

    def test_the_matrix_alone_is_enough(self, tmp_path: Path) -> None:
        source = write(tmp_path / "k", big=big())
        for name in ("item_categories", "user_features", "item_daily_features"):
            (source / "data" / f"{name}.csv").unlink()
        data = prepared(source, tmp_path / "out")
        assert len(data.log) == 8
        assert data.log["tag"].null_count() == data.log["author_id"].null_count() == 8
        assert data.profile_numbers == data.profile_categories == ()

    def test_parquet_and_csv_give_the_same_rows(self, tmp_path: Path) -> None:
        source = write(tmp_path / "k", big=big(), small=small())
        (tmp_path / "p").mkdir()
        for path in (source / "data").iterdir():
            pl.read_csv(path).write_parquet(tmp_path / "p" / f"{path.stem}.parquet")
        ours, theirs = prepared(source, tmp_path / "a").log, prepared(tmp_path / "p", tmp_path / "b").log
        assert ours.equals(theirs)

    def test_labels_of_explicit_feedback_say_that_there_is_none(self, tmp_path: Path) -> None:
        data = prepared(write(tmp_path / "k", big=big()), tmp_path / "out")
        log = data.interactions(data.vocabulary())
        with pytest.raises(BadInput, match="no exposure has explicit feedback"):
            EF().fit(log)
        PCR().fit(log)


class TestWhatIsRefused:
    def test_no_source_at_all(self, tmp_path: Path) -> None:
        assert "--source DIR" in refusal(None, tmp_path / "out")
        assert "https://kuairec.com" in refusal(tmp_path / "nowhere", tmp_path / "out")
        (tmp_path / "empty").mkdir()
        assert "holds no big_matrix" in refusal(tmp_path / "empty", tmp_path / "out")

    @pytest.mark.parametrize("name", ["item_categories", "item_daily_features", "user_features"])
    def test_a_table_beside_the_log_without_its_key(self, tmp_path: Path, name: str) -> None:
        source = write(tmp_path / "k", big=big())
        (source / "data" / f"{name}.csv").write_text("a,b\n1,2\n")
        assert f"{name}.csv lacks the column" in refusal(source, tmp_path / "out")

    @pytest.mark.parametrize("name", ["big", "small"])
    def test_an_empty_matrix(self, tmp_path: Path, name: str) -> None:
        rows = {"big": big(), "small": small()} | {name: []}
        source = write(tmp_path / "k", big=rows["big"], small=rows["small"])
        assert f"{name}_matrix.csv has no rows" in refusal(source, tmp_path / "out")

    def test_a_log_of_which_nothing_is_usable(self, tmp_path: Path) -> None:
        rows = [row(0, 0, 0) | {"timestamp": ""}]
        assert "no row of big_matrix" in refusal(write(tmp_path / "k", big=rows), tmp_path / "out")

    def test_a_video_with_two_rows_of_categories(self, tmp_path: Path) -> None:
        source = write(tmp_path / "k", big=big())
        path = source / "data" / "item_categories.csv"
        path.write_text(path.read_text() + "1,[3]\n")
        assert "row 4: `video_id` is listed twice" in refusal(source, tmp_path / "out")
