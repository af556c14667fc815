"""Many fits side by side, each a job of one process, and what is finished survives a stop."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from models.errors import BadInput

Result = dict[str, Any]
"""What a job found, as JSON."""

Progress = Callable[[float], None]
"""Called with the share that is done."""


class Job(NamedTuple):
    """One fit."""

    method: str
    seed: int


class Outcome(NamedTuple):
    """How a job ended."""

    result: Result
    """Empty if it was refused."""
    refused: str | None
    """Why this method cannot work on this log, in one line."""


Work = Callable[[Job, Progress], Result]
Prepare = Callable[[], Work]
"""Called once in each process, so that a log is read once and not once a job. It is pickled: a function of a
module, or a `functools.partial` of one."""


class Checkpoint:
    """Outcomes of finished jobs, one JSON line each, in a file that is only ever appended to.

    A line that a killed process left half-written is no line. Lines under another digest belong to another
    comparison and are not read.

    Args:
        path: the file; made with the first outcome.
        digest: of everything that decides an outcome besides the job.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self.path, self.digest = path, digest

    def read(self) -> dict[Job, Outcome]:
        """What earlier runs finished."""
        found = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if entry["digest"] == self.digest:
                job = Job(entry["method"], entry["seed"])
                found[job] = Outcome(entry["result"], entry["refused"])
        return found

    def add(self, job: Job, outcome: Outcome) -> None:
        """Keep an outcome, on disk before this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"digest": self.digest, **job._asdict(), **outcome._asdict()})
        with self.path.open("a") as file:
            # In front, too: the line before may have been cut.
            file.write(f"\n{line}\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """The report is written; nothing is left to go on from."""
        self.path.unlink(missing_ok=True)


def run_jobs(
    jobs: Sequence[Job],
    prepare: Prepare,
    checkpoint: Checkpoint,
    *,
    processes: int,
    on_progress: Progress = lambda _: None,
) -> dict[Job, Outcome]:
    """Every job's outcome, from the checkpoint where it is there, otherwise from a process of its own thread.

    Args:
        jobs: what to do, the longest first.
        prepare: makes, in each process, the function that does a job.
        checkpoint: read before, added to after each job.
        processes: how many at once. Each computes on one thread.
        on_progress: called with the share of all jobs that is done.

    Raises:
        BadInput: a process was killed from outside, mostly for memory.
        RuntimeError: a job failed in a way that is no `BadInput`; the worker's traceback is in it, or was
            printed where the process could not begin.
    """
    done = {job: outcome for job, outcome in checkpoint.read().items() if job in set(jobs)}
    waiting = [job for job in jobs if job not in done]
    on_progress(len(done) / max(len(jobs), 1))
    if not waiting:
        return done
    with _pool(min(processes, len(waiting)), prepare) as pool:
        running: dict[Connection, tuple[Job, float]] = {}
        for pipe in list(pool):
            _hand_out(pipe, waiting, running)
        while running:
            ready = wait(list(running))
            for pipe in [pipe for pipe in running if pipe in ready]:
                job, _ = running[pipe]
                kind, content = _answer(pipe, pool[pipe], job)
                if kind == "progress":
                    running[pipe] = (job, content)
                else:
                    del running[pipe]
                    done[job] = Outcome(content, None) if kind == "done" else Outcome({}, content)
                    checkpoint.add(job, done[job])
                    _hand_out(pipe, waiting, running)
            on_progress((len(done) + sum(share for _, share in running.values())) / len(jobs))
    return done


def _hand_out(pipe: Connection, waiting: list[Job], running: dict[Connection, tuple[Job, float]]) -> None:
    if waiting:
        running[pipe] = (waiting.pop(0), 0.0)
        pipe.send(running[pipe][0])


def _answer(pipe: Connection, process: BaseProcess, job: Job) -> tuple[str, Any]:
    try:
        kind, content = pipe.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        if (process.exitcode or 0) >= 0:
            raise RuntimeError(f"the process for {job.method} ended before it worked; see above.") from None
        raise BadInput(
            f"the process that fitted {job.method} with seed {job.seed} was ended from outside (signal "
            f"{-(process.exitcode or 0)}), mostly for want of memory; use fewer --jobs. What is finished is "
            "kept: the same command goes on from there."
        ) from None
    if kind == "broken":
        raise RuntimeError(f"{job.method} with seed {job.seed} failed:\n{content}")
    return kind, content


@contextmanager
def _pool(processes: int, prepare: Prepare) -> Iterator[dict[Connection, BaseProcess]]:
    """Processes by the pipe they listen to; whatever happens, none is left behind.

    Not `concurrent.futures`: it cannot be told to end its workers, and a Ctrl-C would wait for their fits.
    """
    context = multiprocessing.get_context("spawn")
    pool: dict[Connection, BaseProcess] = {}
    # A new process inherits what is blocked: Ctrl-C reaches this process alone, which ends the others. The
    # tracker comes first, because starting it unblocks what was blocked.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for _ in range(processes):
            ours, theirs = context.Pipe()
            process = context.Process(target=_worker, args=(theirs, prepare), daemon=True)
            process.start()
            theirs.close()
            pool[ours] = process
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        yield pool
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for left in pool.values():
            left.terminate()
        for pipe, left in pool.items():
            left.join()
            pipe.close()


def _worker(pipe: Connection, prepare: Prepare) -> None:
    """Do jobs until the other end goes away."""
    torch.set_num_threads(1)
    work: Work | None = None
    # The pipe breaks when the command was killed: then nobody waits for an answer.
    with suppress(EOFError, BrokenPipeError):
        while True:
            job = pipe.recv()
            try:
                work = work or prepare()
                answer: tuple[str, Any] = ("done", work(job, _Reporter(pipe)))
            except BadInput as e:
                answer = ("refused", str(e))
            except BrokenPipeError:
                raise
            except Exception:
                answer = ("broken", traceback.format_exc())
            pipe.send(answer)


class _Reporter:
    """Sends a share of a job when it has grown by a hundredth."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._sent = pipe, 0.0

    def __call__(self, share: float) -> None:
        if share >= self._sent + 0.01:
            self._sent = share
            self._pipe.send(("progress", min(share, 1.0)))
