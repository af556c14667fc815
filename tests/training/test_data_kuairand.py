"""KuaiRand-Pure in its published layout: what is read, and what is refused with which words."""

from __future__ import annotations

import random
from contextlib import suppress
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from models.errors import BadInput
from tests.training import _readers
from tests.training.kuairand_csv import (
    FIRST_LOG,
    LOG_COLUMNS,
    SECOND_LOG,
    USERS,
    VIDEOS,
    default_log,
    log_row,
    user_row,
    video_row,
    write_csv,
    write_kuairand,
)
from training.data import prepare

prepared = partial(_readers.prepared, "kuairand-pure")
refusal = partial(_readers.refusal, "kuairand-pure")


def log_of(source: Path, out: Path) -> pl.DataFrame:
    return prepared(source, out).log


def write_until(source: Path, last_ms: dict[int, int], sequences: list[list[int]] | None = None) -> None:
    """Write the videos that users saw before the log, and when they saw the last of them."""
    pl.DataFrame(
        {
            "user_id": list(last_ms),
            "watch_seq": [[0]] * len(last_ms) if sequences is None else sequences,
            "last_time_ms": list(last_ms.values()),
        }
    ).write_parquet(source / "data" / "user_history_to_4_24_pure.parquet")


class TestWhatIsRead:
    def test_milliseconds_become_seconds_and_ids_strings(self, tmp_path: Path) -> None:
        row = log_row(1, 2, 0, play_time_ms=48_400, duration_ms=24_500, is_like=1, is_profile_enter=1, tab=4)
        log = log_of(write_kuairand(tmp_path / "k", [row]), tmp_path / "out")
        assert log.row(0, named=True) == {
            "user_id": "1",
            "video_id": "2",
            "timestamp_ms": row["time_ms"],
            "watch_time_s": 48.4,
            "duration_s": 24.5,
            "like": True,
            "follow": False,
            "comment": False,
            "forward": False,
            "hate": False,
            "profile_enter": True,
            "tab": "4",
            "author_id": "102",
            "tag": "39",
        }

    def test_both_logs_are_read_and_the_random_one_is_not(self, tmp_path: Path) -> None:
        source = write_kuairand(tmp_path / "k", second=[log_row(0, 0, 60)])
        write_csv(source / "data" / "log_random_4_22_to_5_08_pure.csv", LOG_COLUMNS, [log_row(0, 1, 90)])
        assert len(log_of(source, tmp_path / "out")) == len(default_log()) + 1

    @pytest.mark.parametrize("below", ["", "data", "KuaiRand-Pure/data"])
    def test_the_files_may_lie_in_any_folder_of_the_archive(self, tmp_path: Path, below: str) -> None:
        source = write_kuairand(tmp_path / "k")
        target = tmp_path / "other" / below
        target.parent.mkdir(parents=True, exist_ok=True)
        (source / "data").rename(target)
        assert len(log_of(tmp_path / "other", tmp_path / "out")) == len(default_log())

    def test_parquet_and_csv_of_the_same_log_give_the_same_rows(self, tmp_path: Path) -> None:
        source = write_kuairand(tmp_path / "k")
        for path in (source / "data").iterdir():
            (tmp_path / "p").mkdir(exist_ok=True)
            pl.read_csv(path).write_parquet(tmp_path / "p" / f"{path.stem}.parquet")
        ours, theirs = log_of(source, tmp_path / "a"), log_of(tmp_path / "p", tmp_path / "b")
        assert ours.equals(theirs)

    def test_an_exact_copy_is_dropped_and_counted(self, tmp_path: Path) -> None:
        log = [row for row in default_log() for _ in range(2)]
        info = prepared(write_kuairand(tmp_path / "k", log), tmp_path / "out").info
        assert info.rows.dropped["exact_duplicate"] == len(default_log())
        assert info.rows.kept == len(default_log())

    def test_an_exposure_logged_twice_is_merged_as_the_service_merges(self, tmp_path: Path) -> None:
        log = [log_row(0, 0, 0, is_like=1, play_time_ms=3_000), log_row(0, 0, 0, play_time_ms=9_000)]
        out = log_of(write_kuairand(tmp_path / "k", log), tmp_path / "out")
        assert out.select("watch_time_s", "like").rows() == [(9.0, True)]

    def test_every_row_is_kept_or_counted_under_one_reason(self, tmp_path: Path) -> None:
        log = [
            *default_log(),
            default_log()[-1],
            log_row(1, 1, 20, duration_ms=0),
            log_row(0, 9, 21, duration_ms=0),
        ]
        rows = prepared(write_kuairand(tmp_path / "k", log), tmp_path / "out").info.rows
        assert rows.read == rows.kept + sum(rows.dropped.values()) == len(log)
        assert rows.dropped == {"exact_duplicate": 1, "logged_twice": 0, "no_duration": 1}

    def test_a_missing_duration_is_looked_up_in_the_catalogue(self, tmp_path: Path) -> None:
        log = [log_row(0, 0, 0, duration_ms=0), log_row(0, 1, 1)]
        source = write_kuairand(
            tmp_path / "k", log, videos=[video_row(0, video_duration="31500.0"), video_row(1)]
        )
        assert log_of(source, tmp_path / "out")["duration_s"].to_list() == [31.5, 20.0]

    def test_replays_are_kept(self, tmp_path: Path) -> None:
        log = log_of(
            write_kuairand(tmp_path / "k", [log_row(0, 0, 0, play_time_ms=61_000)]), tmp_path / "out"
        )
        assert log["watch_time_s"].to_list() == [61.0]

    def test_a_streamer_flag_of_minus_124_is_unknown(self, tmp_path: Path) -> None:
        users = [user_row(0, is_live_streamer=-124), user_row(1, is_live_streamer=1, onehot_feat4="3.0")]
        source = write_kuairand(tmp_path / "k", users=users)
        table = prepared(source, tmp_path / "out").tables.users
        assert table["is_live_streamer"].to_list() == [None, "1"]
        assert table["onehot_feat4"].to_list() == ["0", "3"]

    def test_a_log_arranged_by_user_is_read_like_one_in_time_order(self, tmp_path: Path) -> None:
        by_time = [log_row(user=u, video=m % 3, minute=m * 200 + u) for m in range(5) for u in range(150)]
        by_user = sorted(by_time, key=lambda row: (row["user_id"], row["video_id"]))
        ours = log_of(write_kuairand(tmp_path / "a", by_time), tmp_path / "out_a")
        theirs = log_of(write_kuairand(tmp_path / "b", by_user), tmp_path / "out_b")
        assert ours.equals(theirs)

    def test_histories_are_written_with_their_gaps(self, tmp_path: Path) -> None:
        source = write_kuairand(tmp_path / "k")
        write_until(source, {0: 0})
        pl.DataFrame(
            {"user_id": [0, 0], "history_len": [2, 2], "pos_from_end": [2, 1], "video_id": [1, 2],
             "is_like": [1, None], "long_view": [None, 0]}
        ).write_parquet(source / "data" / "history_exposures_to_4_24_pure.parquet")  # fmt: skip
        data = prepared(source, tmp_path / "out")
        history = data.tables.history
        assert history is not None
        assert history.rows() == [("0", "2", 1, False, None), ("0", "1", 2, None, True)]
        assert data.info.history is not None
        assert data.info.history.model_dump() == {
            "rows": 2,
            "users": 1,
            "long_view_known": 1,
            "like_known": 1,
        }

    def test_without_exposures_the_sequences_are_unrolled(self, tmp_path: Path) -> None:
        source = write_kuairand(tmp_path / "k")
        write_until(source, {5: 0, 6: 0}, [[1, 2, 2], []])
        history = prepared(source, tmp_path / "out").tables.history
        assert history is not None
        assert history.select("user_id", "video_id", "position").rows() == [
            ("5", "2", 1),
            ("5", "2", 2),
            ("5", "1", 3),
        ]

    def test_a_history_that_reaches_into_the_log_is_left_out(self, tmp_path: Path) -> None:
        source = write_kuairand(tmp_path / "k", [log_row(0, 0, 10), log_row(1, 0, 20)])
        first, second = log_of(source, tmp_path / "without")["timestamp_ms"]
        write_until(source, {0: first, 1: second - 1}, [[1], [2]])
        history = prepared(source, tmp_path / "out").tables.history
        assert history is not None
        assert history["user_id"].to_list() == ["1"]

    def test_a_history_that_does_not_say_until_when_it_goes_is_none(self, tmp_path: Path) -> None:
        source = write_kuairand(tmp_path / "k")
        pl.DataFrame(
            {"user_id": [0], "history_len": [1], "pos_from_end": [1], "video_id": [1], "is_like": [1],
             "long_view": [0]}
        ).write_parquet(source / "data" / "history_exposures_to_4_24_pure.parquet")  # fmt: skip
        assert prepared(source, tmp_path / "out").tables.history is None


class TestWhatIsRefused:
    @pytest.mark.parametrize("name", [USERS, VIDEOS, FIRST_LOG])
    def test_a_missing_file(self, tmp_path: Path, name: str) -> None:
        source = write_kuairand(tmp_path / "k")
        (source / "data" / name).unlink()
        assert name.split("_4_")[0].removesuffix(".csv") in refusal(source, tmp_path / "out")

    def test_no_source_at_all(self, tmp_path: Path) -> None:
        assert "not a folder" in refusal(tmp_path / "nowhere", tmp_path / "out")

    def test_a_log_of_which_nothing_is_usable(self, tmp_path: Path) -> None:
        log = [log_row(0, 99, m, duration_ms=0) for m in range(3)]
        assert "no row" in refusal(write_kuairand(tmp_path / "k", log), tmp_path / "out")

    def test_a_shuffled_log_names_the_first_row_that_goes_back(self, tmp_path: Path) -> None:
        log = [log_row(user=m % 5, video=m % 3, minute=m) for m in range(200)]
        random.Random(0).shuffle(log)
        first_back = next(
            n
            for n, row in enumerate(log)
            if any(
                r["user_id"] == row["user_id"] and int(str(r["time_ms"])) > int(str(row["time_ms"]))
                for r in log[:n]
            )
        )
        message = refusal(write_kuairand(tmp_path / "k", log), tmp_path / "out")
        assert f"row {first_back + 1:,}:" in message
        assert "backwards" in message

    def test_one_row_out_of_order_is_enough(self, tmp_path: Path) -> None:
        log = default_log()
        log[3], log[7] = log[7], log[3]
        assert "backwards" in refusal(write_kuairand(tmp_path / "k", log), tmp_path / "out")

    def test_a_large_shuffled_log_is_no_log_arranged_by_user(self, tmp_path: Path) -> None:
        log = [log_row(user=m % 150, video=m % 3, minute=m) for m in range(1_500)]
        random.Random(1).shuffle(log)
        assert "backwards" in refusal(write_kuairand(tmp_path / "k", log), tmp_path / "out")

    def test_times_that_contradict_the_date(self, tmp_path: Path) -> None:
        log = default_log()
        log[4]["date"] = 20220425
        message = refusal(write_kuairand(tmp_path / "k", log), tmp_path / "out")
        assert "row 5" in message
        assert "`date`" in message

    def test_a_csv_cut_off_in_the_middle_of_a_line(self, tmp_path: Path) -> None:
        source = write_kuairand(tmp_path / "k")
        path = source / "data" / FIRST_LOG
        path.write_bytes(path.read_bytes()[:-20])
        message = refusal(source, tmp_path / "out")
        assert "row 10" in message
        assert "cut off" in message

    @pytest.mark.parametrize("spoil", ["empty", "garbage", "more fields"])
    def test_a_file_that_is_no_csv(self, tmp_path: Path, spoil: str) -> None:
        source = write_kuairand(tmp_path / "k")
        path = source / "data" / FIRST_LOG
        content = path.read_bytes()
        rng = random.Random(0)
        spoilt = {"empty": b"", "garbage": rng.randbytes(4_000), "more fields": content + b"1," * 40 + b"1\n"}
        path.write_bytes(spoilt[spoil])
        assert FIRST_LOG in refusal(source, tmp_path / "out")

    @pytest.mark.parametrize("keep", [0.0, 0.3, 0.9, 0.999])
    def test_a_truncated_parquet(self, tmp_path: Path, keep: float) -> None:
        source = write_kuairand(tmp_path / "k")
        path = source / "data" / FIRST_LOG
        parquet = path.with_suffix(".parquet")
        pl.read_csv(path).write_parquet(parquet)
        path.unlink()
        parquet.write_bytes(parquet.read_bytes()[: int(parquet.stat().st_size * keep)])
        assert "not a readable parquet" in refusal(source, tmp_path / "out")

    @pytest.mark.slow
    def test_a_parquet_with_flipped_bytes_never_ends_in_a_traceback(self, tmp_path: Path) -> None:
        source = write_kuairand(tmp_path / "k")
        path = source / "data" / FIRST_LOG
        parquet = path.with_suffix(".parquet")
        pl.read_csv(path).write_parquet(parquet)
        path.unlink()
        good = parquet.read_bytes()
        refused = 0
        for seed in range(30):
            rng = random.Random(seed)
            bad = bytearray(good)
            for _ in range(20):
                bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            parquet.write_bytes(bytes(bad))
            out = tmp_path / f"out{seed}"
            with suppress(BadInput):  # anything else is a traceback for the user
                prepare("kuairand-pure", source, out, progress=False)
            refused += not out.exists()
        assert refused > 15

    def test_a_column_of_a_wrong_type_in_parquet(self, tmp_path: Path) -> None:
        source = write_kuairand(tmp_path / "k")
        path = source / "data" / FIRST_LOG
        table = pl.read_csv(path).with_columns(pl.col("time_ms").cast(pl.Float64) + 0.5)
        path.unlink()
        table.write_parquet(path.with_suffix(".parquet"))
        assert "`time_ms` must hold a whole number" in refusal(source, tmp_path / "out")

    def test_a_user_or_video_listed_twice(self, tmp_path: Path) -> None:
        source = write_kuairand(tmp_path / "k", videos=[video_row(0), video_row(1), video_row(1)])
        assert "row 3: `video_id` is listed twice" in refusal(source, tmp_path / "out")

    def test_a_second_log_is_checked_like_the_first(self, tmp_path: Path) -> None:
        source = write_kuairand(tmp_path / "k", second=[log_row(0, 0, 60, play_time_ms=-5)])
        assert f"{SECOND_LOG}, row 1" in refusal(source, tmp_path / "out")
