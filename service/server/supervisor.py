"""Several worker processes: started, watched, restarted, stopped."""

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

from prometheus_client import values as prometheus_values
from prometheus_client.multiprocess import mark_process_dead

from models.errors import NotReady, ReelrankError
from service.server.sockets import listening
from service.server.worker import Ready, run_worker
from service.settings import Settings
from service.telemetry import logs

log = logging.getLogger("reelrank.workers")

_spawn: Final = multiprocessing.get_context("spawn")  # a fork would share the threads and locks of its parent

TICK_S: Final = 0.2
RESTART_S: Final = 1.0
"""A worker that died is started again, but not more often than this."""

BAD: Final = 2
"""Exit code of a worker that has said what is wrong and would fail again."""


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    news: Connection
    born: float
    ready: bool = False


class Workers:
    """N processes on one port.

    Args:
        settings: the same for all.
        host: to listen on.
        port: the same for all; each has a socket of its own on it.
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
        """Run them until SIGTERM or Ctrl-C.

        Args:
            ready: called once, when every worker answers.

        Raises:
            NotReady: a worker could not start; it has said why.
        """
        signals = (signal.SIGTERM, signal.SIGINT)
        before = [(number, signal.signal(number, self._stop)) for number in signals]
        announced = False
        try:
            self._workers = [self._start(place) for place in range(self._count)]
            while not self._stopping:
                version = self._listen()
                if not announced and all(worker.ready for worker in self._workers):
                    announced = True
                    ready(version)
                self._replace_dead()
        finally:
            self._end()
            for number, handler in before:
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True

    def _start(self, place: int) -> _Worker:
        ours, theirs = _spawn.Pipe(duplex=False)
        process = _spawn.Process(
            target=_work,
            args=(self._settings, self._host, self._port, theirs, os.getpid(), place),
            daemon=True,
        )
        process.start()
        theirs.close()
        return _Worker(process, ours, time.monotonic())

    def _listen(self) -> str | None:
        """Hear which workers are ready, or wait a tick."""
        version: str | None = None
        starting = {worker.news: worker for worker in self._workers if not worker.ready}
        if not starting:
            wait([worker.process.sentinel for worker in self._workers], TICK_S)
        for connection in wait(list(starting), TICK_S):
            assert isinstance(connection, Connection)
            worker = starting[connection]
            try:
                version = connection.recv()
                worker.ready = True
            except EOFError:  # it died; `_replace_dead` sees to it
                worker.process.join(TICK_S)
        return version

    def _replace_dead(self) -> None:
        for place, worker in enumerate(self._workers):
            if self._stopping or worker.process.is_alive():
                continue
            mark_process_dead(place)  # type: ignore[no-untyped-call]
            code = worker.process.exitcode
            if not worker.ready and code == BAD:
                raise NotReady("A worker could not start.")
            log.error("a worker died; restarting it", extra={"pid": worker.process.pid, "exit_code": code})
            time.sleep(max(0.0, worker.born + RESTART_S - time.monotonic()))
            self._workers[place] = self._start(place)

    def _end(self) -> None:
        """SIGTERM to all, then SIGKILL to those that outlive their grace."""
        settings = self._settings
        for worker in self._workers:
            worker.process.terminate()
        last = time.monotonic() + settings.drain_s + settings.grace_s + 2.0
        for worker in self._workers:
            worker.process.join(max(0.0, last - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def _work(settings: Settings, host: str, port: int, news: Connection, parent: int, place: int) -> None:
    """A worker process' main."""
    logs.configure(settings.log_level, settings.log_format)
    # Files of counts are named after the place, not the process: whoever takes a dead worker's place counts
    # on from where it ended, and a worker that dies again and again leaves no heap of files.
    prometheus_values.ValueClass = prometheus_values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]
    # Ctrl-C reaches the whole process group; the parent turns it into SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with listening(host, port, shared=True) as sock:
            run_worker(settings, sock, news.send, signals=(signal.SIGTERM,), parent=parent)
    except ReelrankError as e:
        print(f"reelrank: {e}", file=sys.stderr, flush=True)
        sys.exit(BAD)
