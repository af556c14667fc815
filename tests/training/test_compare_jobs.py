"""Jobs run side by side, and what is finished is never done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from models.errors import BadInput
from tests.conftest import ROOT
from training.compare._jobs import Checkpoint, Job, Outcome, Progress, Result, Work, run_jobs

JOBS = [Job(method, seed) for method in ("a", "b") for seed in (0, 1)]
REFUSED = Job("refused", 0)


def prepare(folder: Path) -> Work:
    """Leaves a line in a diary for each job that is really done."""

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
        return result(job)

    return work


def result(job: Job) -> Result:
    """Ctrl-C is for the command, which ends its processes itself: they do not hear it."""
    return {"seed": job.seed, "hears": signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])}


def checkpoint(folder: Path, digest: str = "d") -> Checkpoint:
    return Checkpoint(folder / "deep" / ".partial.jsonl", digest)


def run(folder: Path, jobs: list[Job], seen: list[float] | None = None) -> dict[Job, Outcome]:
    shares: list[float] = [] if seen is None else seen
    return run_jobs(
        jobs, partial(prepare, folder), checkpoint(folder), processes=2, on_progress=shares.append
    )


def diary(folder: Path) -> list[str]:
    return sorted((folder / "diary").read_text().splitlines())


def test_every_job_is_done_once_a_refusal_is_an_outcome_and_progress_reaches_one(tmp_path: Path) -> None:
    seen: list[float] = []
    found = run(tmp_path, [REFUSED, *JOBS], seen)
    assert found == {job: Outcome({"seed": job.seed, "hears": False}, None) for job in JOBS} | {
        REFUSED: Outcome({}, "no explicit feedback")
    }
    assert diary(tmp_path) == ["a 0", "a 1", "b 0", "b 1"]
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    assert seen == sorted(seen)
    assert run(tmp_path, [REFUSED, *JOBS]) == found  # from the checkpoint
    assert diary(tmp_path) == ["a 0", "a 1", "b 0", "b 1"]


def test_a_bug_is_shown_with_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)broken with seed 0.*line.*ZeroDivisionError: a bug"):
        run(tmp_path, [Job("broken", 0)])


def test_a_process_that_is_killed_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    checkpoint(tmp_path).add(JOBS[0], Outcome({"seed": 0}, None))
    with pytest.raises(BadInput, match="fewer --jobs"):
        run(tmp_path, [JOBS[0], Job("killed", 0)])
    assert set(checkpoint(tmp_path).read()) == {JOBS[0]}


def test_a_killed_command_goes_on_and_its_processes_end(tmp_path: Path) -> None:
    waits = Job("waits", 0)
    code = (
        f"from tests.training.test_compare_jobs import *\nrun(Path({str(tmp_path)!r}), [JOBS[0], {waits!r}])"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, start_new_session=True)
    while not checkpoint(tmp_path).read():
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    (tmp_path / "gate").touch()
    ended(process.pid)  # the worker found nobody to tell, before it wrote into the diary
    assert set(run(tmp_path, [JOBS[0], waits])) == {JOBS[0], waits}
    assert diary(tmp_path) == ["a 0", "waits 0"]


def ended(group: int) -> None:
    """Wait until no process of a group is left; the test's time-out ends this if one stays."""
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)


def test_a_line_that_was_cut_is_no_line_and_hides_none_after_it(tmp_path: Path) -> None:
    kept = checkpoint(tmp_path)
    kept.add(JOBS[0], Outcome({"seed": 0}, None))
    whole = kept.path.read_text()
    kept.path.write_text(whole + whole.strip()[:-7])
    kept.add(JOBS[1], Outcome({}, "why"))
    assert kept.read() == {JOBS[0]: Outcome({"seed": 0}, None), JOBS[1]: Outcome({}, "why")}


def test_outcomes_of_another_comparison_are_not_taken_over(tmp_path: Path) -> None:
    checkpoint(tmp_path).add(JOBS[0], Outcome({}, None))
    assert checkpoint(tmp_path, "other").read() == {}
    assert set(checkpoint(tmp_path).read()) == {JOBS[0]}
