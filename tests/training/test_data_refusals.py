"""What every reader of a published log refuses: a column, a unit or a value that is wrong, by its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from models.errors import BadInput
from tests.training._readers import RELEASES, prepared, refusal
from tests.training.kuairand_csv import Row
from training.data._files import Kind, read_columns

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
    ({"user_id": "1.59388E+09"}, "has lost digits in a spreadsheet"),
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
    ({"timestamp": "1.59388E+09"}, "has lost digits in a spreadsheet"),
    ({"video_id": "1.59388e+09"}, "has lost digits in a spreadsheet"),
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
    ({"feedid": "1.2E+05"}, "has lost digits in a spreadsheet"),
]
IDS = {
    "kuairand-pure": ("user_id", "video_id", "tab"),
    "kuairand-1k": ("user_id", "video_id", "tab"),
    "kuairec": ("user_id", "video_id"),
    "wechat": ("userid", "feedid", "device"),
}
TABLES = [
    ("kuairand-pure", "data/video_features_basic_pure.csv", "video_id"),
    ("kuairand-pure", "data/user_features_pure.csv", "user_id"),
    ("kuairand-1k", "data/video_features_basic_1k.csv", "video_id"),
    ("kuairand-1k", "data/user_features_1k.csv", "user_id"),
    ("kuairec", "data/item_categories.csv", "video_id"),
    ("kuairec", "data/item_daily_features.csv", "video_id"),
    ("kuairec", "data/user_features.csv", "user_id"),
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


@pytest.mark.parametrize("written", ["12.0", "12.", "Float64"])
@pytest.mark.parametrize("dataset", IDS)
def test_ids_that_went_through_a_spreadsheet_are_the_same_ids(
    tmp_path: Path, dataset: str, written: str
) -> None:
    release, ids = RELEASES[dataset], pl.col(IDS[dataset])
    source = release.write(tmp_path / "source", release.rows())
    plain = prepared(dataset, source, tmp_path / "plain")
    path = source / release.log
    if written == "Float64":
        pl.read_csv(path).with_columns(ids.cast(pl.Float64)).write_parquet(path.with_suffix(".parquet"))
        path.unlink()
    else:
        pl.read_csv(path, infer_schema=False).with_columns(ids + written.removeprefix("12")).write_csv(path)
    again = prepared(dataset, source, tmp_path / "again")
    assert again.log.equals(plain.log)
    assert again.tables.users.equals(plain.tables.users)


def test_ids_beyond_what_floating_point_holds_stay_exact_or_are_refused(tmp_path: Path) -> None:
    path, long = tmp_path / "ids.csv", 2**64 + 1
    path.write_text(f"id\n{long}\n{long}.0\n{2**53 + 1}\n12e5\n00.0\n")
    kinds = {"id": Kind.ID}
    assert read_columns(path, kinds)["id"].to_list() == [*[str(long)] * 2, str(2**53 + 1), "12e5", "00"]
    parquet = path.with_suffix(".parquet")
    pl.DataFrame({"id": [2.0**53 - 1, float("nan"), None]}).write_parquet(parquet)
    assert read_columns(parquet, kinds)["id"].to_list() == [str(2**53 - 1), None, None]
    for value, dtype in ((2.0**53, pl.Float64), (2.0**24, pl.Float32), (1.5, pl.Float64)):
        pl.DataFrame({"id": [1.0, value]}, schema={"id": dtype}).write_parquet(parquet)
        with pytest.raises(BadInput, match="row 2: `id` is no exact whole number"):
            read_columns(parquet, kinds)


@pytest.mark.parametrize(("dataset", "table", "key"), TABLES)
def test_a_table_that_describes_no_row_of_the_log_is_refused(
    tmp_path: Path, dataset: str, table: str, key: str
) -> None:
    release = RELEASES[dataset]
    source = release.write(tmp_path / "source", release.rows())
    path = source / table
    pl.read_csv(path, infer_schema=False).with_columns(("x" + pl.col(key)).alias(key)).write_csv(path)
    message = refusal(dataset, source, tmp_path / "out")
    assert f"describes no `{key}` of the log: it has 'x0', the log has" in message


@pytest.mark.parametrize(("dataset", "column"), [(d, c) for d, columns in IDS.items() for c in columns[:2]])
@pytest.mark.parametrize(
    ("value", "word"), [("ü" * 129, "more than 256 bytes"), ("a\x1fb", "control character")]
)
def test_an_id_that_the_service_refuses_is_refused(
    tmp_path: Path, dataset: str, column: str, value: str, word: str
) -> None:
    release = RELEASES[dataset]
    source = release.write(tmp_path / "source", release.rows())
    for path in source.rglob("*.csv"):  # in every table, so that the log's videos are known
        rows = pl.read_csv(path, infer_schema=False)
        if column in rows.columns:
            rows.with_columns(pl.col(column).replace("0", value)).write_csv(path)
    assert word in refusal(dataset, source, tmp_path / "out")
