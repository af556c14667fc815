"""Jobs that write a line into a diary when they are done. A new process imports no more than this."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

from models.errors import BadInput
from training.experiments.jobs import Checkpoint, Job, Outcome, Progress, Result, Work, run_jobs

JOBS = [Job(method, seed) for method in ("a", "b") for seed in (0, 1)]


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


def run_diary(
    folder: Path, jobs: list[Job], shares: list[float] | None = None, *, processes: int = 2
) -> dict[Job, Outcome]:
    """Run jobs that keep a diary in a folder."""
    record = ([] if shares is None else shares).append
    prepare = partial(prepare_diary, folder)
    return run_jobs(jobs, prepare, checkpoint(folder), processes=processes, on_progress=record)


def wait_until_ended(group: int) -> None:
    """Wait until no process of a group is left; the test's time-out fires if one stays."""
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
