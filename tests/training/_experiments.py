"""Logs, jobs and commands that tests of experiments share."""

from __future__ import annotations

import json
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from models.errors import BadInput
from training.__main__ import app
from training.data import SyntheticConfig, prepare
from training.experiments.jobs import Checkpoint, Job, Outcome, Progress, Result, Work, run_jobs

DAY_MS = 86_400_000
JOBS = [Job(method, seed) for method in ("a", "b") for seed in (0, 1)]


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


# --- jobs that write a line into a diary when they are done


def prepare_diary(folder: Path) -> Work:
    """Return work that some methods refuse, fail, are killed in, or wait in."""

    def work(job: Job, progress: Progress) -> Result:
        if job.method == "refused":
            raise BadInput("no explicit feedback")
        if job.method == "broken":
            raise ZeroDivisionError("a bug")
        if job.method == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        while job.method == "waits" and not (folder / "gate").exists():
            time.sleep(0.01)
        progress(0.5)
        with (folder / "diary").open("a") as file:
            file.write(f"{job.method} {job.seed}\n")
        # Ctrl-C is for the command, which ends its processes itself: they must not receive it.
        return {
            "seed": job.seed,
            "interruptible": signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, []),
        }

    return work


def checkpoint(folder: Path, digest: str = "d") -> Checkpoint:
    """Return the checkpoint of `run_diary`."""
    return Checkpoint(folder / "deep" / ".partial.jsonl", digest)


def run_diary(folder: Path, jobs: list[Job], shares: list[float] | None = None) -> dict[Job, Outcome]:
    """Run jobs that keep a diary in a folder, in two processes."""
    record = ([] if shares is None else shares).append
    return run_jobs(jobs, partial(prepare_diary, folder), checkpoint(folder), processes=2, on_progress=record)


def wait_until_ended(group: int) -> None:
    """Wait until no process of a group is left; the test's time-out fires if one stays."""
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
