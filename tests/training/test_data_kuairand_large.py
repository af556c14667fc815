"""KuaiRand-1K and -27K in their published layouts: read in parts, as Pure is read as a whole."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import BadInput
from tests.training._readers import refusal
from tests.training.kuairand_csv import (
    LOG_COLUMNS,
    LOGS_1K,
    LOGS_27K,
    VIDEO_COLUMNS,
    Row,
    default_log,
    log_row,
    release,
    video_row,
    write_1k,
    write_csv,
    write_kuairand,
)
from training.data import STREAMED, load, prepare
from training.data.readers._kuairand_large import write_release


def release_27k(folder: Path) -> Path:
    logs = {name: [log_row(n, n % 3, 10 * n + m) for m in range(4)] for n, name in enumerate(LOGS_27K)}
    return release(folder, logs, "27k")


class TestWhatIsRead:
    def test_a_folder_of_1k_becomes_data_like_any_other(self, tmp_path: Path) -> None:
        summary = prepare("kuairand-1k", write_1k(tmp_path / "k"), tmp_path / "out", progress=False)
        assert summary.files == ("dataset.json", "interactions.parquet", "users.parquet", "videos.parquet")
        data = load(summary.out)
        assert data.info == summary.info
        assert summary.info.rows.model_dump() == {
            "read": 11,
            "kept": 11,
            "dropped": {"exact_duplicate": 0, "logged_twice": 0, "no_duration": 0},
        }
        assert summary.info.days == ("2022-04-20", "2022-04-22")
        assert (summary.info.users, summary.info.videos, summary.info.main_tab) == (3, 3, "1")
        assert (summary.info.licence, summary.info.utc_offset_hours) == ("CC BY-SA 4.0", 8.0)
        assert data.log["tab"].unique().to_list() == ["1"], "the random log is another policy's"
        assert data.info.first_timestamp_ms == data.log["timestamp_ms"].to_list()[0]
        assert data.info.last_timestamp_ms == data.log["timestamp_ms"].to_list()[-1]
        assert summary.info.notes == ()

    def test_all_four_parts_of_27k_are_read(self, tmp_path: Path) -> None:
        summary = prepare("kuairand-27k", release_27k(tmp_path / "k"), tmp_path / "out", progress=False)
        assert summary.info.rows.kept == 16
        assert load(summary.out).log["user_id"].unique().sort().to_list() == ["0", "1", "2", "3"]

    def test_a_published_log_that_is_not_there_is_noted(self, tmp_path: Path) -> None:
        source = release_27k(tmp_path / "k")
        (source / "data" / f"{LOGS_27K[3]}.csv").unlink()
        summary = prepare("kuairand-27k", source, tmp_path / "out", progress=False)
        assert summary.info.notes == (f"Published logs that were not there: {LOGS_27K[3]}.",)

    @pytest.mark.parametrize("below", ["", "data", "KuaiRand-1K/data"])
    def test_the_files_may_lie_in_any_folder_of_the_archive(self, tmp_path: Path, below: str) -> None:
        source = write_1k(tmp_path / "k")
        target = tmp_path / "other" / below
        target.parent.mkdir(parents=True, exist_ok=True)
        (source / "data").rename(target)
        assert (
            prepare("kuairand-1k", tmp_path / "other", tmp_path / "out", progress=False).info.rows.kept == 11
        )

    def test_the_catalogue_may_come_in_parts(self, tmp_path: Path) -> None:
        source = release_27k(tmp_path / "k")
        path = source / "data" / "video_features_basic_27k.csv"
        whole = pl.read_csv(path)
        path.unlink()
        whole[:1].write_csv(path.with_name("video_features_basic_27k_part1.csv"))
        whole[1:].write_csv(path.with_name("video_features_basic_27k_part2.csv"))
        prepare("kuairand-27k", source, tmp_path / "out", progress=False)
        assert load(tmp_path / "out").tables.videos["video_id"].to_list() == ["0", "1", "2"]


EXPOSURES = st.lists(
    st.builds(
        log_row,
        user=st.integers(0, 2),
        video=st.integers(0, 4),
        minute=st.sampled_from([0, 1, 700, 1_439, 1_440, 2_900]),
        play_time_ms=st.sampled_from([0, 4_000, 26_000]),
        duration_ms=st.sampled_from([0, 12_000, 20_000]),
        is_like=st.integers(0, 1),
        tab=st.integers(0, 1),
    ),
    min_size=1,
    max_size=30,
)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(log=EXPOSURES, batch_rows=st.sampled_from([1, 3, 7, 1_000]))
def test_in_parts_the_rows_are_those_that_pure_reads_as_a_whole(
    tmp_path: Path, log: list[Row], batch_rows: int
) -> None:
    log = sorted([log_row(0, 0, 2), *log], key=lambda row: str(row["time_ms"]))
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    whole = prepare("kuairand-pure", write_kuairand(tmp_path / "p", log), tmp_path / "whole", progress=False)
    (tmp_path / "parts").mkdir()
    source = release(tmp_path / "k", {LOGS_1K[0]: log}, "1k")
    info = write_release("kuairand-1k", source, tmp_path / "parts", batch_rows)
    assert info.rows == whole.info.rows
    assert (info.users, info.videos, info.days) == (whole.info.users, whole.info.videos, whole.info.days)
    ours = pl.read_parquet(tmp_path / "parts" / "interactions.parquet")
    assert ours.equals(pl.read_parquet(tmp_path / "whole" / "interactions.parquet"))
    assert sorted(p.name for p in (tmp_path / "parts").iterdir()) == [
        "interactions.parquet",
        "users.parquet",
        "videos.parquet",
    ]


class TestWhatIsRefused:
    @pytest.mark.parametrize("dataset", STREAMED)
    def test_no_source_at_all(self, tmp_path: Path, dataset: str) -> None:
        assert "--source DIR" in refusal(dataset, None, tmp_path / "out")
        message = refusal(dataset, tmp_path / "nowhere", tmp_path / "out")
        assert "is not a folder" in message
        assert "https://kuairand.com" in message

    def test_another_release(self, tmp_path: Path) -> None:
        assert "log_standard_*_27k" in refusal("kuairand-27k", write_1k(tmp_path / "k"), tmp_path / "out")

    @pytest.mark.parametrize("name", ["user_features_1k", "video_features_basic_1k", "log_standard"])
    def test_a_missing_file(self, tmp_path: Path, name: str) -> None:
        source = write_1k(tmp_path / "k")
        for path in (source / "data").glob(f"{name}*"):
            path.unlink()
        assert name in refusal("kuairand-1k", source, tmp_path / "out")

    def test_a_part_before_the_last_that_is_missing(self, tmp_path: Path) -> None:
        source = release_27k(tmp_path / "k")
        (source / "data" / f"{LOGS_27K[0]}.csv").unlink()
        message = refusal("kuairand-27k", source, tmp_path / "out")
        assert "lacks part 1" in message
        assert "log_standard_4_08_to_4_21_27k" in message

    @pytest.mark.parametrize("name", [f"{LOGS_27K[1]}.parquet", "log_standard_4_08_to_4_21_27k.csv"])
    def test_rows_that_would_be_read_twice(self, tmp_path: Path, name: str) -> None:
        source = release_27k(tmp_path / "k")
        log = pl.read_csv(source / "data" / f"{LOGS_27K[1]}.csv")
        path = source / "data" / name
        log.write_csv(path) if path.suffix == ".csv" else log.write_parquet(path)
        assert "remove one of them" in refusal("kuairand-27k", source, tmp_path / "out")

    def test_a_bad_row_far_into_the_file_is_named(self, tmp_path: Path) -> None:
        log = default_log()
        log[8] |= {"play_time_ms": -3}
        (tmp_path / "out").mkdir()
        with pytest.raises(BadInput, match=r"1k\.csv after row 6, row 3: `play_time_ms` is negative"):
            write_release("kuairand-1k", write_1k(tmp_path / "k", log), tmp_path / "out", batch_rows=3)

    @pytest.mark.parametrize("rows", ["none", "unusable"])
    def test_a_log_without_rows_to_learn_from(self, tmp_path: Path, rows: str) -> None:
        log = [] if rows == "none" else [log_row(0, 99, m, duration_ms=0) for m in range(3)]
        source = release(tmp_path / "k", {LOGS_1K[0]: log}, "1k")
        word = "no rows" if rows == "none" else "no row of log_standard"
        assert word in refusal("kuairand-1k", source, tmp_path / "out")

    def test_a_video_listed_twice(self, tmp_path: Path) -> None:
        source = write_1k(tmp_path / "k")
        path = source / "data" / "video_features_basic_1k.csv"
        write_csv(path, VIDEO_COLUMNS, [video_row(0), video_row(1), video_row(0)])
        assert "`video_id` 0 is listed twice" in refusal("kuairand-1k", source, tmp_path / "out")

    def test_an_empty_catalogue(self, tmp_path: Path) -> None:
        source = write_1k(tmp_path / "k")
        write_csv(source / "data" / "video_features_basic_1k.csv", VIDEO_COLUMNS, [])
        assert "has no rows" in refusal("kuairand-1k", source, tmp_path / "out")

    def test_a_file_that_is_no_csv(self, tmp_path: Path) -> None:
        source = write_1k(tmp_path / "k")
        path = source / "data" / f"{LOGS_1K[0]}.csv"
        path.write_bytes(random.Random(0).randbytes(4_000))
        assert path.name in refusal("kuairand-1k", source, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux how much memory was needed")
def test_in_parts_a_long_log_needs_half_the_memory_it_needs_as_a_whole(tmp_path: Path) -> None:
    source = long_log(tmp_path / "k", days=24, rows_of_day=20_000)
    parts = peak_mib(
        "from training.data.readers._kuairand_large import write_release; Path(sys.argv[2]).mkdir(); "
        "write_release('kuairand-1k', Path(sys.argv[1]), Path(sys.argv[2]), 20_000)",
        source,
        tmp_path / "parts",
    )
    for path in (source / "data").glob("*_1k.csv"):
        path.rename(path.with_name(path.name.replace("_1k", "_pure")))
    whole = peak_mib(
        "from training.data import prepare; "
        "prepare('kuairand-pure', Path(sys.argv[1]), Path(sys.argv[2]), progress=False)",
        source,
        tmp_path / "whole",
    )
    assert parts < 0.5 * whole, (parts, whole)


def long_log(folder: Path, days: int, rows_of_day: int) -> Path:
    """A release with one exposure after the other."""
    source = write_1k(folder)
    like = pl.DataFrame(default_log()[:1])
    time_ms = like["time_ms"][0] + pl.col("n") * (86_400_000 // rows_of_day)
    date = pl.from_epoch(time_ms + 8 * 3_600_000, time_unit="ms").dt.strftime("%Y%m%d")
    log = like.drop("time_ms", "date").join(pl.DataFrame({"n": range(rows_of_day * days)}), how="cross")
    log = log.with_columns(time_ms=time_ms, date=date).select(LOG_COLUMNS)
    log.write_csv(source / "data" / f"{LOGS_1K[0]}.csv")
    return source


def peak_mib(code: str, *paths: Path) -> float:
    """What a fresh interpreter needs for some code beyond its imports."""
    code = (
        "import sys; from pathlib import Path; import training.data; "
        "peak = lambda: int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) / 1024; "
        f"before = peak(); {code}; print(peak() - before)"
    )
    command = [sys.executable, "-c", code, *map(str, paths)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
