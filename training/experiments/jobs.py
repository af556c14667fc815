"""Fits side by side: each a job of one thread, in another process or this one, finished ones kept on disk."""

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
"""What a fit returns, as JSON."""
Progress = Callable[[float], None]
"""Called with the share of the work that is finished."""


class Job(NamedTuple):
    """One fit."""

    method: str
    seed: int


class Outcome(NamedTuple):
    """How a job ended."""

    result: Result
    """Empty if the method refused the log."""
    refused: str | None
    """Why the method cannot work on this log, in one line."""


Work = Callable[[Job, Progress], Result]
Prepare = Callable[[], Work]
"""Called once in each process, so that a log is read once and not once a job. It is pickled: a function of a
module, or a `functools.partial` of one."""


class Checkpoint:
    """Outcomes of finished jobs in a file that is only ever appended to, one JSON line each.

    A line that a killed process left incomplete is skipped, as are lines with another digest: they belong to
    another experiment.

    Args:
        path: the file; created with the first outcome.
        digest: of everything that decides an outcome besides the job.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self.path, self.digest = path, digest

    def read(self) -> dict[Job, Outcome]:
        """Return the outcomes of earlier runs."""
        outcomes = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            with suppress(json.JSONDecodeError):
                entry = json.loads(line)
                if entry["digest"] == self.digest:
                    job = Job(entry["method"], entry["seed"])
                    outcomes[job] = Outcome(entry["result"], entry["refused"])
        return outcomes

    def add(self, job: Job, outcome: Outcome) -> None:
        """Append an outcome; it is on disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps({"digest": self.digest, **job._asdict(), **outcome._asdict()})
        with self.path.open("a") as file:
            file.write(f"\n{line}\n")  # a newline in front, too: the line before may have been cut
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Delete the file: the report is written."""
        self.path.unlink(missing_ok=True)


def run_jobs(
    jobs: Sequence[Job],
    prepare: Prepare,
    checkpoint: Checkpoint,
    *,
    processes: int,
    on_progress: Progress = lambda _: None,
) -> dict[Job, Outcome]:
    """Return the outcome of every job, from the checkpoint where it is there, otherwise from running it.

    One at a time they run in this process, so that no other has to import everything again.

    Args:
        jobs: in the order in which they start.
        prepare: makes, in each process, the function that does a job.
        checkpoint: read first, and extended after each job.
        processes: how many at once, one thread each.
        on_progress: called with the finished share of all jobs.

    Raises:
        BadInput: a process was killed from outside, mostly for memory.
        RuntimeError: a job raised something else than `BadInput`; the message contains its traceback.
    """
    outcomes = {job: outcome for job, outcome in checkpoint.read().items() if job in set(jobs)}
    waiting = [job for job in jobs if job not in outcomes]
    on_progress(len(outcomes) / max(len(jobs), 1))
    if not waiting:
        return outcomes

    def keep(job: Job, kind: str, content: Any) -> None:
        if kind == "error":
            raise RuntimeError(f"{job.method} with seed {job.seed} failed:\n{content}")
        outcomes[job] = Outcome(content, None) if kind == "result" else Outcome({}, content)
        checkpoint.add(job, outcomes[job])

    if processes == 1:
        with _one_thread():
            do = _worker(prepare)
            for job in waiting:
                keep(job, *do(job, lambda share: on_progress((len(outcomes) + share) / len(jobs))))
                on_progress(len(outcomes) / len(jobs))
        return outcomes
    with _pool(min(processes, len(waiting)), prepare) as pool:
        running: dict[Connection, tuple[Job, float]] = {}

        def start_next(connection: Connection) -> None:
            if waiting:
                running[connection] = (waiting.pop(0), 0.0)
                connection.send(running[connection][0])

        for connection in pool:
            start_next(connection)
        while running:
            ready = wait(list(running))
            for connection in [connection for connection in running if connection in ready]:
                job, _ = running[connection]
                kind, content = _receive(connection, pool[connection], job)
                if kind == "progress":
                    running[connection] = (job, content)
                    continue
                del running[connection]
                keep(job, kind, content)
                start_next(connection)
            on_progress((len(outcomes) + sum(share for _, share in running.values())) / len(jobs))
    return outcomes


def _receive(connection: Connection, process: BaseProcess, job: Job) -> tuple[str, Any]:
    try:
        kind, content = connection.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        code = process.exitcode or 0
        if code >= 0:
            raise RuntimeError(f"the process for {job.method} exited before it worked; see above.") from None
        raise BadInput(
            f"the process that fitted {job.method} with seed {job.seed} was killed from outside (signal "
            f"{-code}), mostly for lack of memory; use fewer --jobs. Finished fits are kept: the same "
            "command continues from there."
        ) from None
    return kind, content


@contextmanager
def _pool(processes: int, prepare: Prepare) -> Iterator[dict[Connection, BaseProcess]]:
    """Yield processes by their connections; none survives the block.

    Not `concurrent.futures`, which cannot end its workers: Ctrl-C would wait for their fits.
    """
    context = multiprocessing.get_context("spawn")
    pool: dict[Connection, BaseProcess] = {}
    # A new process inherits the blocked signals: Ctrl-C reaches this process alone, which ends the others.
    # The resource tracker starts first, because its start unblocks the signal.
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        for index in range(processes):
            connection, remote = context.Pipe()
            process = context.Process(
                target=_serve, args=(remote, prepare), daemon=True, name=f"worker-{index}"
            )
            process.start()
            remote.close()
            pool[connection] = process
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        yield pool
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        for worker in pool.values():
            worker.terminate()
        for connection, worker in pool.items():
            worker.join()
            connection.close()


def _serve(connection: Connection, prepare: Prepare) -> None:
    """Do jobs until the other end of the connection closes."""
    torch.set_num_threads(1)
    do = _worker(prepare)
    with suppress(EOFError, BrokenPipeError):  # the command was killed: no process reads the reply
        while True:
            connection.send(do(connection.recv(), _send_progress(connection)))


def _worker(prepare: Prepare) -> Callable[[Job, Progress], tuple[str, Any]]:
    """Return a function that does a job and returns how it ended, and its result or the reason."""
    work: Work | None = None

    def do(job: Job, progress: Progress) -> tuple[str, Any]:
        nonlocal work
        try:
            work = work or prepare()
            return "result", work(job, progress)
        except BadInput as e:
            return "refused", str(e)
        except BrokenPipeError:
            raise
        except Exception:
            return "error", traceback.format_exc()

    return do


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _send_progress(connection: Connection) -> Progress:
    """Return a function that sends a job's share when it has grown by a hundredth."""
    sent = 0.0

    def send(share: float) -> None:
        nonlocal sent
        if share >= sent + 0.01:
            sent = share
            connection.send(("progress", min(share, 1.0)))

    return send
