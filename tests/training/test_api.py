"""The Python API does what the commands do, on frames."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import training
from models.errors import BadInput
from models.store import BundleStore
from tests.conftest import ROOT, run_ok
from training.data import load

OWN = pl.DataFrame(
    {
        "uid": ["a", "a", "b", "b"],
        "clip": ["x", "y", "x", "z"],
        "at": [datetime(2026, 1, day, 12, tzinfo=UTC) for day in (1, 2, 3, 4)],
        "played": [2500, 8000, 1000, 30_000],
        "length": [10.0, 20.0, 10.0, 30.0],
        "liked": [False, True, False, True],
    }
)
COLUMNS = {
    "user_id": "uid",
    "video_id": "clip",
    "timestamp_ms": "at",
    "watch_time_s": "played:ms",
    "duration_s": "length:s",
    "like": "liked",
}


class Table:
    """A frame of another library, with columns by name."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize("kind", [pl.DataFrame, pl.LazyFrame, Table])
def test_a_frame_of_any_library_becomes_a_log_in_seconds(kind: type) -> None:
    log = training.read_log(OWN.lazy() if kind is pl.LazyFrame else kind(OWN), COLUMNS)
    assert log.frame["watch_time_s"].to_list() == [2.5, 8.0, 1.0, 30.0]
    assert log.frame["like"].to_list() == [False, True, False, True]
    assert repr(log) == "Log of 4 exposures: 2 users, 3 videos, 2026-01-01 to 2026-01-04"
    assert "<table" in log._repr_html_()


def test_a_file_is_read_as_a_frame_is(tmp_path: Path) -> None:
    OWN.write_parquet(tmp_path / "log.parquet")
    from_file, from_frame = (
        training.read_log(tmp_path / "log.parquet", COLUMNS),
        training.read_log(OWN, COLUMNS),
    )
    assert from_file.frame.equals(from_frame.frame)


def test_a_folder_that_prepare_wrote_is_read_as_it_is(synthetic_data: Path) -> None:
    assert training.read_log(synthetic_data).frame.equals(load(synthetic_data).log)


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(BadInput, match="user"):
        training.read_log(OWN, {**COLUMNS, "user_id": "user"})


def test_labels_of_a_log_are_those_of_the_command(synthetic_data: Path, tmp_path: Path) -> None:
    bundles, out = ROOT / "models" / "bundles", tmp_path / "labels.parquet"
    run_ok("label", "--bundle", bundles, "--data", synthetic_data, "--out", out, "--labels", "labelcraft,pcr")
    found = training.label(training.read_log(synthetic_data), bundles, ["labelcraft", "pcr"])
    assert found.sort(found.columns).equals(pl.read_parquet(out).sort(found.columns))


TINY: dict[str, Any] = {
    "closed_form": {"steps": 3, "redraws": 1, "window_days": 3},
    "loop": {"epochs": 2},
    "lda": {"anchors": {"epochs": 2}},
}


@pytest.mark.slow
def test_a_run_is_fitted_evaluated_compared_drawn_and_exported(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"users": 40, "videos": 100, "exposures": 1500, "days": 7}')
    run_ok(
        *("prepare", "--dataset", "synthetic", "--source", tmp_path / "config.json"),
        *("--out", tmp_path / "data"),
    )
    log = training.read_log(tmp_path / "data")
    run = training.fit(log, "smoke", out=tmp_path / "run", **TINY)
    assert "On the test days the predicted watch time is" in repr(run)
    assert run.verdict in run._repr_html_()
    again = training.open_run(tmp_path / "run", log)
    assert again.evaluate()["mae_s"] == pytest.approx(run.evaluation.metrics["mae_s"], rel=1e-5)
    table = run.compare(training.Run(tmp_path / "run"))
    assert table.columns[0] == "metric"
    assert "mae_s" in table["metric"].to_list()
    assert run.plot()._repr_png_().startswith(b"\x89PNG")
    run.plot().save(tmp_path / "labels.svg")
    folder = run.export(tmp_path / "bundles", promote=True, force=True, allow_unlearned=True)
    assert BundleStore(tmp_path / "bundles").current() == folder.name


def test_a_wrong_override_lists_what_is_near() -> None:
    with pytest.raises(BadInput, match=r"has no `loop.epoch`; near it are loop.epochs"):
        training.fit(training.read_log(OWN, COLUMNS), loop={"epoch": 6})


def test_importing_the_package_imports_no_training_stack() -> None:
    code = "import sys, training; dir(training); sys.exit(bool({'torch', 'polars'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    assert not hasattr(training, "predict")
