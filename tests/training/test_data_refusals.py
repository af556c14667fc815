"""What every reader of a published log refuses: a column, a unit or a value that is wrong, by its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from tests.training._readers import RELEASES, refusal
from tests.training.kuairand_csv import Row

COLUMNS = {
    "kuairand-pure": ("user_id", "time_ms", "play_time_ms", "duration_ms", "is_like", "tab"),
    "kuairand-1k": ("time_ms", "play_time_ms", "is_like"),
    "kuairec": ("user_id", "video_id", "play_duration", "video_duration", "timestamp"),
    "wechat": ("userid", "feedid", "date_", "play", "like", "click_avatar"),
}
KUAIRAND_UNITS = [
    (("duration_ms", "play_time_ms"), 0.001, "looks like seconds"),
    (("duration_ms", "play_time_ms"), 1_000, "looks like microseconds"),
    (("duration_ms",), 0.001, "different units"),
    (("play_time_ms",), 0.001, "different units"),
    (("play_time_ms",), 1_000, "different units"),
    (("time_ms",), 0.001, "seconds"),
    (("time_ms",), 1_000, "microseconds"),
]
KUAIREC_UNITS = [
    (("play_duration", "video_duration"), 0.001, "looks like seconds"),
    (("play_duration", "video_duration"), 1_000, "looks like microseconds"),
    (("play_duration",), 0.001, "different units"),
    (("video_duration",), 0.001, "different units"),
    (("timestamp",), 1_000, "milliseconds"),
    (("timestamp",), 0.001, "no time in Unix seconds"),
]
KUAIRAND_VALUES: list[tuple[Row, str]] = [
    ({"play_time_ms": -1}, "is negative"),
    ({"duration_ms": -20_000}, "is negative"),
    ({"play_time_ms": "nan"}, "not a finite number"),
    ({"duration_ms": "inf"}, "not a finite number"),
    ({"play_time_ms": 10**12}, "is the unit wrong"),
    ({"play_time_ms": "long"}, "is not a number"),
    ({"time_ms": "noon"}, "is not a whole number"),
    ({"is_like": 2}, "must be 0 or 1"),
    ({"is_hate": "yes"}, "is not a whole number"),
    ({"user_id": ""}, "is empty"),
    ({"tab": ""}, "is empty"),
    ({"date": 20221341}, "is no date"),
]
KUAIREC_VALUES: list[tuple[Row, str]] = [
    ({"play_duration": -1}, "is negative"),
    ({"play_duration": ""}, "is empty"),
    ({"play_duration": "long"}, "is not a number"),
    ({"video_duration": "inf"}, "not a finite number"),
    ({"timestamp": "noon"}, "is not a number"),
    ({"timestamp": "nan"}, "not a finite number"),
    ({"user_id": ""}, "is empty"),
]
WECHAT_VALUES: list[tuple[Row, str]] = [
    ({"date_": 0}, "is no day from 1"),
    ({"date_": 20210514}, "is no day from 1"),
    ({"date_": "monday"}, "is not a whole number"),
    ({"play": -1}, "is negative"),
    ({"play": ""}, "is empty"),
    ({"like": 2}, "must be 0 or 1"),
    ({"userid": ""}, "is empty"),
]


@pytest.mark.parametrize(("dataset", "column"), [(d, c) for d, columns in COLUMNS.items() for c in columns])
def test_a_missing_column_is_named_with_its_file(tmp_path: Path, dataset: str, column: str) -> None:
    release = RELEASES[dataset]
    source = release.write(tmp_path / "source", release.rows())
    path = source / release.log
    pl.read_csv(path).drop(column).write_csv(path)
    assert f"{path.name} lacks the column `{column}`" in refusal(dataset, source, tmp_path / "out")


@pytest.mark.parametrize(
    ("dataset", "columns", "factor", "word"),
    [
        *(("kuairand-pure", *case) for case in KUAIRAND_UNITS),
        *(("kuairand-1k", *KUAIRAND_UNITS[i]) for i in (0, 2, 5)),
        *(("kuairec", *case) for case in KUAIREC_UNITS),
    ],
)
def test_a_mistaken_unit_is_named(
    tmp_path: Path, dataset: str, columns: Sequence[str], factor: float, word: str
) -> None:
    release = RELEASES[dataset]
    number = float if dataset == "kuairec" else int  # KuaiRand's are whole numbers
    rows = [row | {c: number(float(str(row[c])) * factor) for c in columns} for row in release.rows()]
    assert word in refusal(dataset, release.write(tmp_path / "source", rows), tmp_path / "out")


@pytest.mark.parametrize(
    ("dataset", "change", "word"),
    [
        *(("kuairand-pure", *case) for case in KUAIRAND_VALUES),
        *(("kuairec", *case) for case in KUAIREC_VALUES),
        *(("wechat", *case) for case in WECHAT_VALUES),
    ],
)
def test_a_value_out_of_range_names_its_row(tmp_path: Path, dataset: str, change: Row, word: str) -> None:
    release = RELEASES[dataset]
    rows = release.rows()
    rows[6] |= change
    message = refusal(dataset, release.write(tmp_path / "source", rows), tmp_path / "out")
    assert f"{Path(release.log).name}, row 7: `{next(iter(change))}`" in message
    assert word in message


@pytest.mark.parametrize("dataset", ["kuairand-pure", "kuairec", "wechat"])
def test_an_empty_log_is_refused(tmp_path: Path, dataset: str) -> None:
    release = RELEASES[dataset]
    message = refusal(dataset, release.write(tmp_path / "source", []), tmp_path / "out")
    assert f"{Path(release.log).name} has no rows" in message
