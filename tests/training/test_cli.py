"""The commands: what they write, and how they refuse."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import polars as pl
import pytest

from models.store import BundleStore
from tests.conftest import ROOT, run_command, run_ok
from training.data import load
from training.train.checkpoints import checkpoint_folder

pytestmark = pytest.mark.slow

KEYS = {"mae_s", "rmse_s", "xauc", "gauc_long_view", "rows"} | {
    f"{name}@{k}" for name in ("nwtg", "neg", "ds", "users") for k in (5, 10)
}


def refused(*arguments: str | Path) -> str:
    """The one line of a command that must be refused."""
    result = run_command(*arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def test_evaluating_a_run_gives_every_figure_of_the_public_surface_and_those_of_the_manifest(
    smoke_run: Path, synthetic_data: Path, smoke_bundles: Path, tmp_path: Path
) -> None:
    figures = tmp_path / "figures.json"
    run_ok("evaluate", "--run", smoke_run, "--data", synthetic_data, "--json", figures)
    found = json.loads(figures.read_text())
    assert set(found) >= KEYS | {"command", "commit", "machine", "by_tab", "baselines"}
    assert found["seen"] is False
    assert "evaluate" in found["command"]
    assert found["rows"] > 0
    store = BundleStore(smoke_bundles)
    manifest = json.loads((store.path(store.current()) / "manifest.json").read_text())
    for name, value in manifest["evaluation"]["metrics"].items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


def test_a_window_that_the_weights_have_seen_is_refused_and_allowed_only_with_a_word(
    smoke_bundles: Path, synthetic_data: Path, tmp_path: Path
) -> None:
    last = load(synthetic_data).info.days[-1]
    line = refused("evaluate", "--bundle", smoke_bundles, "--data", synthetic_data, "--from", last)
    assert "watermark" in line
    assert "--allow-seen" in line
    figures = tmp_path / "figures.json"
    out = run_ok(
        *("evaluate", "--bundle", smoke_bundles, "--data", synthetic_data, "--from", last),
        *("--allow-seen", "--json", figures),
    )
    assert "SEEN" in out
    assert json.loads(figures.read_text())["seen"] is True


def test_rows_before_the_window_are_history_and_not_scored(
    smoke_run: Path, synthetic_data: Path, tmp_path: Path
) -> None:
    dataset = load(synthetic_data)
    last = dataset.info.days[-1]
    figures = tmp_path / "figures.json"
    run_ok("evaluate", "--run", smoke_run, "--data", synthetic_data, "--from", last, "--json", figures)
    day = pl.from_epoch(dataset.log["timestamp_ms"], "ms").dt.strftime("%Y-%m-%d")
    assert json.loads(figures.read_text())["rows"] == int((day == last).sum())


@pytest.fixture(scope="module")
def exported(
    smoke_run: Path, smoke_bundles: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str, str]:
    """A folder with both fits of a run as versions: the one before the test days, and the final one."""
    root = tmp_path_factory.mktemp("exported")
    final = BundleStore(smoke_bundles).current()
    shutil.copytree(smoke_bundles / final, root / final)
    note = root.with_suffix(".json")
    run_ok("export", smoke_run, "--to", root, "--which", "evaluation", "--json", note)
    return root, json.loads(note.read_text())["version"], final


def test_promote_and_rollback_move_current(exported: tuple[Path, str, str]) -> None:
    root, evaluation, final = exported
    for version in (evaluation, final):
        run_ok("promote", version, "--bundles", root)
        assert (root / "CURRENT").read_text().strip() == version
    run_ok("rollback", "--bundles", root)
    assert (root / "CURRENT").read_text().strip() == evaluation
    assert "20990101-00000000" in refused("promote", "20990101-00000000", "--bundles", root)
    assert (root / "CURRENT").read_text().strip() == evaluation


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "nonsense", "--data", ".", "--out", "x"), "no recipe 'nonsense'"),
        (("fit", "smoke", "--data", "no-such-folder", "--out", "x"), "interactions.parquet"),
        (("evaluate", "--data", "."), "one of --bundle and --run"),
        (("export", "no-such-run"), "not a run"),
        (("prepare", "--dataset", "nonsense", "--out", "x"), "nonsense"),
        (("rollback", "--bundles", "no-such-folder"), "no-such-folder"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(arguments: tuple[str, ...], message: str) -> None:
    assert message in refused(*arguments)


def test_a_run_is_not_overwritten(smoke_run: Path, synthetic_data: Path) -> None:
    before = sorted(p.name for p in smoke_run.iterdir())
    assert "exists already" in refused("fit", "smoke", "--data", synthetic_data, "--out", smoke_run)
    assert sorted(p.name for p in smoke_run.iterdir()) == before


def test_ctrl_c_leaves_nothing_half_written(synthetic_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "stopped"
    process = subprocess.Popen(
        [sys.executable, "-m", "training", "fit", "smoke", "--data", synthetic_data, "--out", out],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    while not (out.parent.exists() and list(out.parent.iterdir())):  # it has begun to write
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "stopped; " in errors
    assert set(out.parent.iterdir()) <= {checkpoint_folder(out)}


WITHOUT_STACK = """
import runpy, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "polars", "matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv[0] = "training"
runpy.run_module("training", run_name="__main__")
"""
"""The program where the extra `train` is not installed."""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--help",), 0, "rollback"),
        (("--version",), 0, metadata.version("reelrank")),
        (("promote", "20990101-00000000", "--bundles", "no-such-folder"), 2, "20990101-00000000"),
        (("rollback", "--bundles", "no-such-folder"), 2, "no-such-folder"),
        (("fit", "smoke", "--data", ".", "--out", "x"), 2, "pip install 'reelrank[train,cpu]'"),
        (("compare", "labels", "--data", ".", "--out", "x"), 2, "is not installed"),
    ],
)
def test_only_what_trains_needs_the_training_stack(
    arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_STACK, *arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == code, result.stderr
    assert message in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    if code:
        assert result.stderr.count("\n") == 1
