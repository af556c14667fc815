"""Several worker processes: started, watched, restarted, stopped.

Not uvicorn's supervisor (0.54): its workers go on serving after their parent was killed, it restarts workers
with a wrong configuration for ever instead of ending with exit code 2, and it gives workers no stable index
to name their metrics files after.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Final

from prometheus_client.multiprocess import mark_process_dead

from models.errors import NotReady, ReelrankError
from service.server.back_off import BackOff
from service.server.sockets import listening
from service.server.worker import Ready, run_worker
from service.settings import Settings
from service.telemetry import logs
from service.telemetry.metrics import shared_values

log = logging.getLogger("reelrank.workers")

_spawn: Final = multiprocessing.get_context("spawn")  # a fork would share the threads and locks of its parent

TICK_S: Final = 0.2
EXIT_CONFIG_ERROR: Final = 2
"""Exit code of a worker that would fail again; it has printed the reason."""


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    ready_pipe: Connection
    back_off: BackOff
    started_s: float
    ready: bool = False
    restart_s: float | None = None
    """When it died: the time at which it is started again."""


class Supervisor:
    """N worker processes on one port.

    Args:
        settings: of every worker.
        host: to listen on.
        port: of every worker; each has a socket of its own on it.
        count: N.
    """

    def __init__(self, settings: Settings, host: str, port: int, count: int) -> None:
        self._settings = settings
        self._host = host
        self._port = port
        self._count = count
        self._workers: list[_Worker] = []
        self._stopping = False

    def run(self, ready: Ready) -> None:
        """Run the workers until SIGTERM or Ctrl-C.

        Args:
            ready: called once, when every worker answers.

        Raises:
            NotReady: a worker could not start; it has printed the reason.
        """
        signals = (signal.SIGTERM, signal.SIGINT)
        previous = [(number, signal.signal(number, self._stop)) for number in signals]
        announced = False
        try:
            self._workers = [self._start(index, BackOff()) for index in range(self._count)]
            while not self._stopping:
                version = self._poll_ready()
                if not announced and all(worker.ready for worker in self._workers):
                    announced = True
                    ready(version)
                self._replace_dead()
        finally:
            self._stop_all()
            for number, handler in previous:
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _start(self, index: int, back_off: BackOff) -> _Worker:
        receiver, sender = _spawn.Pipe(duplex=False)
        args = (self._settings, self._host, self._port, sender, os.getpid(), index)
        process = _spawn.Process(target=_work, args=args, daemon=True)
        process.start()
        sender.close()
        return _Worker(process, receiver, back_off, time.monotonic())

    def _poll_ready(self) -> str | None:
        """Wait a tick for workers to get ready or die; return the version that one of them has loaded."""
        version: str | None = None
        alive = [worker for worker in self._workers if worker.restart_s is None]
        starting = {worker.ready_pipe: worker for worker in alive if not worker.ready}
        for source in wait([*starting, *(worker.process.sentinel for worker in alive)], TICK_S):
            if isinstance(source, Connection):
                worker = starting[source]
                try:
                    version = source.recv()
                    worker.ready = True
                except EOFError:  # it died; `_replace_dead` handles it
                    worker.process.join(TICK_S)
        return version

    def _replace_dead(self) -> None:
        now_s = time.monotonic()
        for index, worker in enumerate(self._workers):
            if self._stopping or worker.process.is_alive():
                continue
            if worker.restart_s is None:
                mark_process_dead(index)  # type: ignore[no-untyped-call]
                code = worker.process.exitcode
                if not worker.ready and code == EXIT_CONFIG_ERROR:
                    raise NotReady("A worker could not start.")
                pause_s = worker.back_off.died(now_s - worker.started_s)
                fields = {"pid": worker.process.pid, "exit_code": code, "in_s": pause_s}
                log.error("a worker died; restarting it", extra=fields)
                worker.restart_s = now_s + pause_s
            if now_s >= worker.restart_s:
                self._workers[index] = self._start(index, worker.back_off)

    def _stop_all(self) -> None:
        """Send SIGTERM to all workers, then SIGKILL to those that exceed their grace period."""
        for worker in self._workers:
            worker.process.terminate()
        deadline = time.monotonic() + self._settings.drain_s + self._settings.grace_s + 2.0
        for worker in self._workers:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _work(settings: Settings, host: str, port: int, ready_pipe: Connection, parent: int, index: int) -> None:
    """Run as the main function of a worker process."""
    logs.configure(settings.log_level, settings.log_format)
    # Ctrl-C reaches the whole process group; the parent turns it into SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with listening(host, port, shared=True) as sock, shared_values(str(index)):
            run_worker(settings, sock, ready_pipe.send, signals=(signal.SIGTERM,), parent=parent)
    except ReelrankError as e:
        print(f"reelrank: {e}", file=sys.stderr, flush=True)
        sys.exit(EXIT_CONFIG_ERROR)
