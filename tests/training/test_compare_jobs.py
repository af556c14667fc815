"""Jobs run side by side, and what is finished is never done twice."""

from __future__ import annotations

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from models.errors import BadInput
from training.compare._jobs import Checkpoint, Job, Outcome, Progress, Result, Work, run_jobs

JOBS = [Job(method, seed) for method in ("a", "b") for seed in (0, 1)]


def prepare(diary: Path) -> Work:
    """Leaves a line in a diary for each job that is really done."""

    def work(job: Job, progress: Progress) -> Result:
        if job.method == "refused":
            raise BadInput("no explicit feedback")
        if job.method == "broken":
            raise ZeroDivisionError("a bug")
        if job.method == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        progress(0.5)
        with diary.open("a") as file:
            file.write(f"{job.method} {job.seed}\n")
        return {"seed": job.seed}

    return work


def done(folder: Path, jobs: list[Job], digest: str = "d") -> dict[Job, Outcome]:
    checkpoint = Checkpoint(folder / "deep" / ".partial.jsonl", digest)
    return run_jobs(jobs, partial(prepare, folder / "diary"), checkpoint, processes=2)


def diary(folder: Path) -> list[str]:
    path = folder / "diary"
    return sorted(path.read_text().splitlines()) if path.exists() else []


def test_every_job_is_done_once_and_a_second_run_does_nothing(tmp_path: Path) -> None:
    found = done(tmp_path, JOBS)
    assert found == {job: Outcome({"seed": job.seed}, None) for job in JOBS}
    assert diary(tmp_path) == ["a 0", "a 1", "b 0", "b 1"]
    assert done(tmp_path, JOBS) == found
    assert diary(tmp_path) == ["a 0", "a 1", "b 0", "b 1"]


def test_a_run_goes_on_behind_a_line_that_was_cut(tmp_path: Path) -> None:
    done(tmp_path, JOBS[:2])
    checkpoint = tmp_path / "deep" / ".partial.jsonl"
    whole = checkpoint.read_text()
    checkpoint.write_text(whole + json.dumps({"digest": "d", "method": "b", "seed": 0, "result": {}})[:-7])
    found = done(tmp_path, JOBS)
    assert set(found) == set(JOBS)
    assert diary(tmp_path) == ["a 0", "a 1", "b 0", "b 1"]
    assert set(Checkpoint(checkpoint, "d").read()) == set(JOBS)


def test_outcomes_of_another_comparison_are_not_taken_over(tmp_path: Path) -> None:
    done(tmp_path, JOBS[:1])
    done(tmp_path, JOBS[:1], digest="other")
    assert diary(tmp_path) == ["a 0", "a 0"]


def test_a_refusal_is_an_outcome_and_the_others_go_on(tmp_path: Path) -> None:
    refused = Job("refused", 0)
    found = done(tmp_path, [refused, *JOBS[:2]])
    assert found[refused] == Outcome({}, "no explicit feedback")
    assert diary(tmp_path) == ["a 0", "a 1"]
    assert done(tmp_path, [refused])[refused].refused == "no explicit feedback"


def test_a_bug_is_shown_with_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)broken with seed 0.*line.*ZeroDivisionError: a bug"):
        done(tmp_path, [Job("broken", 0)])


def test_a_process_that_is_killed_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    done(tmp_path, JOBS[:1])
    with pytest.raises(BadInput, match="fewer --jobs"):
        done(tmp_path, [JOBS[0], Job("killed", 0)])
    assert set(Checkpoint(tmp_path / "deep" / ".partial.jsonl", "d").read()) == {JOBS[0]}


def test_progress_ends_at_one_and_never_falls(tmp_path: Path) -> None:
    seen: list[float] = []
    checkpoint = Checkpoint(tmp_path / "partial", "d")
    run_jobs(JOBS, partial(prepare, tmp_path / "diary"), checkpoint, processes=2, on_progress=seen.append)
    assert seen[0] == 0.0
    assert seen[-1] == 1.0
    assert seen == sorted(seen)
