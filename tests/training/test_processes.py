"""A fit in several processes is the fit in one, and goes on when one of them is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, run_command
from tests.training.test_resume import assert_same_run
from training.train.checkpoints import checkpoint_folder

pytestmark = pytest.mark.slow

TINY = (
    *("--set", "closed_form.steps=3", "--set", "closed_form.redraws=1", "--set", "closed_form.window_days=3"),
    *("--set", "loop.epochs=2", "--set", "loop.batch_size=64", "--set", "loop.learning_rate=0.0003"),
    *("--set", "trees.rounds=5", "--set", "trees.rows_per_leaf=5", "--set", "lda.anchors.epochs=2"),
    *("--set", "encoder.dropout=0", "--set", "encoder.id_dropout=0", "--set", "encoder.profile_dropout=0"),
    *("--set", "lda.alignment=0", "--threads", "1"),
)
"""Every loss is a mean over rows, and nothing is drawn: transport is of a batch, and processes draw apart."""


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    size = {"users": 40, "videos": 100, "exposures": 1500, "days": 7}
    (folder / "config.json").write_text(json.dumps(size))
    found = run_command(
        *("prepare", "--dataset", "synthetic", "--source", folder / "config.json", "--out", folder / "data")
    )
    assert found.returncode == 0, found.stderr
    return folder / "data"


def start(data: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "training", "fit", "smoke", "--data", data, "--out", out, *TINY, *more)
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(fit: subprocess.Popen[str]) -> tuple[int, str]:
    _, errors = fit.communicate(timeout=280)
    return fit.returncode, errors


def curve(run: Path) -> list[dict[str, Any]]:
    epochs: list[dict[str, Any]] = json.loads((run / "metrics.json").read_text())["curves"]["evaluation"][
        "ranker"
    ]
    return epochs


def workers(supervisor: int) -> list[int]:
    """The processes that fit, by rank."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(supervisor)], capture_output=True, text=True)
    ranks: dict[int, int] = {}
    for pid in map(int, found.stdout.split()):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        ranks |= {int(entry[5:]): pid for entry in environment if entry.startswith(b"RANK=")}
    return [ranks[rank] for rank in sorted(ranks)]


def wait_for(path: Path, fit: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert fit.poll() is None, fit.communicate()
        time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes."""
    out = tmp_path_factory.mktemp("undisturbed") / "run"
    code, errors = finish(start(tiny_data, out, "--processes", "2"))
    assert code == 0, errors
    return out


def test_two_processes_learn_what_one_does(tiny_data: Path, undisturbed: Path, tmp_path: Path) -> None:
    found = run_command("fit", "smoke", "--data", tiny_data, "--out", tmp_path / "run", *TINY)
    assert found.returncode == 0, found.stderr
    for one, two in zip(curve(tmp_path / "run"), curve(undisturbed), strict=True):
        for loss in ("watch_loss", "interest_loss"):
            assert one[loss] == pytest.approx(two[loss], rel=1e-4)
        assert one["stop_mae_s"] == pytest.approx(two["stop_mae_s"], rel=1e-3)


def test_a_fit_goes_on_when_a_process_is_killed(tiny_data: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit = start(tiny_data, out, "--processes", "2")
    for finished, rank in (("evaluation/ranker.pt", 1), ("release/tables.pt", 0)):
        wait_for(checkpoint_folder(out) / finished, fit)
        os.kill(workers(fit.pid)[rank], signal.SIGKILL)
    code, errors = finish(fit)
    assert code == 0, errors
    assert errors.count("beginning again from the last checkpoint") == 2
    assert "Traceback" not in errors
    assert_same_run(undisturbed, out)
    assert list(tmp_path.iterdir()) == [out]


def test_what_is_refused_is_refused_once_and_not_tried_again(tiny_data: Path, undisturbed: Path) -> None:
    code, errors = finish(start(tiny_data, undisturbed, "--processes", "2"))
    assert code == 2
    assert errors.count("exists already") == 1
    assert "Traceback" not in errors
