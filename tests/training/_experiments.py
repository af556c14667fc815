"""Logs and commands that tests of experiments share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from models.errors import BadInput
from training.__main__ import app
from training.data import SyntheticConfig, prepare

DAY_MS = 86_400_000


def write_log(folder: Path, **options: Any) -> Path:
    """Return the DATA of a small simulated log."""
    (folder / "log.json").write_text(SyntheticConfig(**options).model_dump_json())
    prepare("synthetic", folder / "log.json", folder / "data", progress=False)
    return folder / "data"


def copy_with_other_test_days(data: Path, folder: Path, test_days: int) -> Path:
    """Return a copy of DATA whose watch times of the last days are others."""
    folder.mkdir()
    for path in data.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    table = pl.read_parquet(data / "interactions.parquet")
    day, watched = pl.col("timestamp_ms") // DAY_MS, pl.col("watch_time_s")
    other = pl.when(day > day.max() - test_days).then(watched * 7 + 3).otherwise(watched)
    changed = table.with_columns(other.cast(table["watch_time_s"].dtype).alias("watch_time_s"))
    assert not changed.equals(table)
    changed.write_parquet(folder / "interactions.parquet")
    return folder


def write_json(path: Path, content: Any) -> Path:
    """Return the path of a new JSON file."""
    path.write_text(json.dumps(content))
    return path


def read_rows(report: Path, name: str = "method") -> dict[str, Any]:
    """Return the rows of a report by their method."""
    return {row[name]: row for row in json.loads((report / "report.json").read_text())["rows"]}


def run_command(*arguments: str | Path) -> str:
    """Return the standard output of a `python -m training` command that runs in this process."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    if result.exception is not None:
        raise result.exception
    return result.stdout


def refusal(*arguments: str | Path) -> str:
    """Return why a command refuses its input; that it becomes one line and exit code 2, `test_cli` shows."""
    with pytest.raises(BadInput) as caught:
        run_command(*arguments)
    return str(caught.value)


def assert_pictures(report: Path, names: set[str]) -> None:
    """A report has just these pictures, each small and shown in its Markdown."""
    text = (report / "report.md").read_text()
    assert {path.name for path in report.glob("*.png")} == names
    for name in names:
        assert f"({name})" in text
        assert 2_000 < (report / name).stat().st_size < 150_000
