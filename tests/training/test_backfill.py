"""`python -m training backfill`: a log of many partitions is labelled again, and what changes is counted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from models.errors import BadInput
from models.store import BundleStore
from tests.conftest import ROOT, run_command, run_ok
from training.evaluation.evaluate import open_bundle
from training.export.backfill import Task, backfill, left_to_do, price, read_partitions, total_changes
from training.export.batch_label import label_log
from training.export.label_changes import MOVED, LabelChange

pytestmark = pytest.mark.slow

LABELS = ("labelcraft", "pcr")


@pytest.fixture(scope="module")
def days(synthetic_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The synthetic log, cut into three partitions of different sizes."""
    folder = tmp_path_factory.mktemp("days")
    log = pl.read_parquet(synthetic_data / "interactions.parquet")
    for name, (start, end) in {"a": (0, 500), "b": (500, 3_000), "c": (3_000, len(log))}.items():
        (folder / name).mkdir()
        shutil.copy(synthetic_data / "users.parquet", folder / name)
        log[start:end].write_parquet(folder / name / "interactions.parquet")
    return folder


@pytest.fixture(scope="module")
def other() -> Path:
    """The released bundle, whose labels of this log are others."""
    released = BundleStore(ROOT / "models" / "bundles")
    return released.path(released.current())


def test_partitions_have_the_labels_of_the_whole_log(
    days: Path, smoke_bundles: Path, synthetic_data: Path, tmp_path: Path
) -> None:
    task, partitions = Task(smoke_bundles, None, LABELS, tmp_path, {}), read_partitions(days)
    backfill(left_to_do(partitions, task), task, jobs=2)
    label_log(open_bundle(smoke_bundles), synthetic_data, tmp_path / "whole", labels=LABELS)
    parts = pl.concat(pl.read_parquet(tmp_path / f"{name}.parquet") for name in "abc")
    assert_frame_equal(parts, pl.read_parquet(tmp_path / "whole"), abs_tol=1e-5)


def test_a_second_run_does_what_is_missing_alone(days: Path, smoke_bundles: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    shutil.copytree(days, log)
    task = Task(smoke_bundles, None, LABELS, tmp_path / "out", {})
    task.out.mkdir()
    partitions = read_partitions(log)
    backfill(partitions[:1], task)
    assert [partition.name for partition in left_to_do(partitions, task)] == ["b", "c"]
    backfill(left_to_do(partitions, task), task)
    assert left_to_do(partitions, task) == []

    part = log / "b" / "interactions.parquet"
    pl.read_parquet(part).head(100).write_parquet(part)
    changed = read_partitions(log)
    assert [partition.name for partition in left_to_do(changed, task)] == ["b"]
    (task.out / "c.parquet").unlink()
    assert [partition.name for partition in left_to_do(changed, task)] == ["b", "c"]
    more = task._replace(labels=(*LABELS, "wt"))
    assert [partition.name for partition in left_to_do(changed, more)] == ["a", "b", "c"]


def test_labels_of_another_bundle_are_left_alone(
    days: Path, smoke_bundles: Path, other: Path, tmp_path: Path
) -> None:
    partitions = read_partitions(days)
    backfill(partitions[:1], Task(smoke_bundles, None, LABELS, tmp_path, {}))
    with pytest.raises(BadInput, match=f"has labels of bundle .*, not of {other.name}; give a new folder"):
        left_to_do(partitions, Task(other, None, LABELS, tmp_path, {}))


def test_the_command_prices_labels_and_reports_what_changes(
    days: Path, smoke_bundles: Path, other: Path, tmp_path: Path
) -> None:
    out, figures = tmp_path / "out", tmp_path / "figures.json"
    arguments: list[str | Path] = [
        "backfill",
        "--bundle",
        smoke_bundles,
        "--data",
        days,
        "--out",
        out,
        "--before",
        other,
    ]
    planned = run_ok(*arguments, "--plan")
    assert "3 partitions, 0 of them labelled before" in planned
    assert "core-hours" in planned
    assert not out.exists()

    printed = run_ok(*arguments, "--labels", "labelcraft,pcr", "--json", figures)
    assert "| `labelcraft` |" in printed
    found = json.loads(figures.read_text())
    assert found["changes"]["labelcraft"]["moved"] > 0.01
    assert found["changes"]["pcr"]["correlation"] == pytest.approx(1.0)
    assert (out / "report" / "report.md").read_text() in printed
    assert "nothing to do" in run_ok(*arguments, "--labels", "labelcraft,pcr")


def test_a_folder_without_partitions_is_refused(smoke_bundles: Path, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    result = run_command(
        "backfill", "--bundle", smoke_bundles, "--data", tmp_path / "log", "--out", tmp_path / "out"
    )
    assert result.returncode == 2
    assert "holds neither interactions.parquet nor folders with one" in result.stderr


def test_the_price_grows_with_the_rows(days: Path, smoke_bundles: Path, tmp_path: Path) -> None:
    task, partitions = Task(smoke_bundles, None, LABELS, tmp_path, {}), read_partitions(days)
    found = price(partitions, task)
    assert (found.partitions, found.rows) == (3, sum(partition.rows for partition in partitions))
    assert found.gigabytes > 0
    assert list(tmp_path.iterdir()) == []


def test_changes_add_up_over_batches() -> None:
    random = np.random.default_rng(0)
    before, after = random.random(1_000), random.random(1_000)
    whole, parts = LabelChange(), LabelChange()
    whole.add(before, after, abs(after - before))
    for start in range(0, 1_000, 300):
        part = LabelChange()
        own = slice(start, start + 300)
        part.add(before[own], after[own], abs(after - before)[own])
        parts.merge(LabelChange(json.loads(json.dumps(part.sums()))))
    found = parts.figures()
    assert found == pytest.approx(whole.figures())
    assert found["correlation"] == pytest.approx(np.corrcoef(before, after)[0, 1])
    assert found["moved"] == np.mean(abs(after - before) > MOVED)
    assert found["p95_shift"] == pytest.approx(np.quantile(abs(after - before), 0.95), abs=0.01)


def test_a_constant_label_has_no_correlation() -> None:
    change = LabelChange()
    change.add(np.full(10, 0.5), np.linspace(0, 1, 10), np.zeros(10))
    assert change.figures()["correlation"] is None
    assert change.figures()["moved"] == 0


def test_a_log_that_is_one_partition_is_taken_as_it_is(synthetic_data: Path) -> None:
    [partition] = read_partitions(synthetic_data)
    assert partition.folder == synthetic_data
    assert total_changes([], Path()) == {}
