"""A fit that is killed at any moment and resumed ends as one that was not stopped."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from models.errors import BadInput
from tests.conftest import ROOT, run_command
from training.data import Dataset, SyntheticConfig, simulate_log
from training.train.checkpoints import Checkpoint, checkpoint_folder, open_checkpoints, what_is_left
from training.train.identity import fit_identity
from training.train.recipes import smoke

pytestmark = pytest.mark.slow

TINY = (
    *("--set", "closed_form.steps=3", "--set", "closed_form.redraws=1", "--set", "closed_form.window_days=3"),
    *("--set", "loop.epochs=3", "--set", "loop.counterfactual=0.5", "--set", "lda.anchors.epochs=2"),
    *("--set", "trees.rounds=20", "--set", "trees.rows_per_leaf=5"),
    *("--threads", "1"),
)
REPORTS = 29
"""Reports of progress of the whole fit."""

KILLED = """
import os, signal, sys
from training.train import run_folder
from training.__main__ import main

left = int(sys.argv.pop(1))
fit = run_folder.fit

def with_an_end(dataset, recipe, config, out, progress, *arguments, **options):
    def count(stage, share):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.{signal})
        progress(stage, share)
    return fit(dataset, recipe, config, out, count, *arguments, **options)

run_folder.fit = with_an_end
main()
"""
"""The program, which ends itself at a report of progress."""


@pytest.fixture(scope="module")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "config.json").write_text(
        json.dumps({"users": 40, "videos": 100, "exposures": 1500, "days": 7})
    )
    found = run_command(
        *("prepare", "--dataset", "synthetic", "--source", folder / "config.json", "--out", folder / "data")
    )
    assert found.returncode == 0, found.stderr
    return folder / "data"


def fit(data: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return run_command("fit", "smoke_objectives", "--data", data, "--out", out, *TINY, *more)


@pytest.fixture(scope="module")
def uninterrupted(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    fitted = fit(tiny_data, out)
    assert fitted.returncode == 0
    assert "so export will ask for --allow-unlearned: they were not compared" in fitted.stderr
    return out


def stopped(
    data: Path, out: Path, reports: int, signal_name: str = "SIGKILL"
) -> subprocess.CompletedProcess[str]:
    """The same fit, which ends at a report of progress."""
    arguments = ("fit", "smoke_objectives", "--data", data, "--out", out, *TINY, "--resume")
    return subprocess.run(
        [sys.executable, "-c", KILLED.format(signal=signal_name), str(reports), *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )


def without_origin(run: Path) -> dict[str, Any]:
    note: dict[str, Any] = json.loads((run / "metrics.json").read_text())
    del note["command"], note["seconds"]
    return note


def assert_same_run(first: Path, second: Path) -> None:
    assert sorted(p.name for p in first.iterdir()) == sorted(p.name for p in second.iterdir())
    assert without_origin(first) == without_origin(second)
    for which in ("evaluation.pt", "release.pt"):
        one, other = (torch.load(run / which, weights_only=True) for run in (first, second))
        for part in ("label_makers", "ranker"):
            assert list(one[part]) == list(other[part])
            for name, tensor in one[part].items():
                torch.testing.assert_close(tensor, other[part][name], rtol=0, atol=0, equal_nan=True)


def test_a_fit_killed_at_random_moments_and_resumed_is_the_one_that_was_not_stopped(
    tiny_data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    draw, out = random.Random(0), tmp_path / "run"
    for _ in range(3):
        killed = stopped(tiny_data, out, draw.randint(1, REPORTS // 2))
        assert killed.returncode in (-signal.SIGKILL, 0), killed.stderr
        if not killed.returncode:
            break
        assert not out.exists()
    else:
        assert fit(tiny_data, out, "--resume").returncode == 0
    assert_same_run(uninterrupted, out)
    assert list(tmp_path.iterdir()) == [out]


def test_a_fit_that_is_stopped_keeps_what_is_finished_and_says_how_to_continue(
    tiny_data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    stop = stopped(tiny_data, out, 10, "SIGTERM")
    assert stop.returncode == 143, stop.stderr
    assert "Traceback" not in stop.stderr
    assert "--resume" in stop.stderr
    assert list(tmp_path.iterdir()) == [checkpoint_folder(out)]

    for change, message in (
        ((), "continue with --resume"),
        (
            ("--resume", "--set", "loop.learning_rate=0.002"),
            "`config.loop.learning_rate` was 0.003 and is 0.002",
        ),
        (("--resume", "--seed", "1"), "`config.seed` was 0 and is 1"),
    ):
        refused = fit(tiny_data, out, *change)
        assert refused.returncode == 2
        assert message in refused.stderr
    assert fit(tiny_data, out, "--resume").returncode == 0
    assert_same_run(uninterrupted, out)


def test_another_log_is_another_fit() -> None:
    log = simulate_log(SyntheticConfig(users=20, videos=30, exposures=300), seed=0).dataset()
    flipped = log.log.with_columns(like=~pl.col("like"))
    other = Dataset(replace(log.tables, interactions=flipped))
    one, two = (fit_identity(dataset, "smoke", smoke()) for dataset in (log, other))
    assert one == fit_identity(log, "smoke", smoke())
    assert {name for name in one if one[name] != two[name]} == {"data"}


def leave(out: Path, identity: dict[str, Any], *, finished: bool, stop: BaseException) -> None:
    with contextlib.suppress(type(stop)), open_checkpoints(out, identity, resume=True) as checkpoints:
        if finished:
            checkpoints.part("evaluation").named("labels").write({"curve": [1.0]})
        raise stop


def test_only_what_is_finished_is_left_and_only_by_a_fit_that_could_continue(tmp_path: Path) -> None:
    out = tmp_path / "run"
    leave(out, {}, finished=False, stop=KeyboardInterrupt())
    assert "nothing is left" in what_is_left(out)
    leave(out, {}, finished=True, stop=BadInput("the fit diverged"))
    assert list(tmp_path.iterdir()) == []
    leave(out, {"data": {"users": "a"}}, finished=True, stop=MemoryError())
    with open_checkpoints(out, {"data": {"users": "a"}}, resume=True) as checkpoints:
        assert checkpoints.part("evaluation").named("labels").read() == {"curve": [1.0]}
        with (
            pytest.raises(BadInput, match="another process is fitting"),
            open_checkpoints(out, {}, resume=True),
        ):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_checkpoint_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "ranker.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(BadInput, match="is damaged; remove"):
        Checkpoint(path).read()
