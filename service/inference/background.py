"""Low-priority work beside the requests: one thread, a bounded queue, and pauses."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger("reelrank.background")

QUEUE_SIZE: Final = 64
"""Jobs that may wait. More would only run later, and hold more memory."""

COOLDOWN_RATIO: Final = 9.0
"""Seconds of pause after each second of computing: the thread takes at most a tenth of a core, however much
is submitted; what does not fit is refused, and counted by the caller.

A pause and not a low scheduling priority: on a busy machine a low-priority thread that holds the
interpreter's lock is not scheduled for long, and every request waits for the lock with it.
"""

CLOSE_TIMEOUT_S: Final = 2.0
"""How long `close` waits for the running job."""


class BackgroundWorker:
    """A thread that starts with the first job."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue(QUEUE_SIZE)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def queued(self) -> int:
        """Jobs that have not begun."""
        return self._jobs.qsize()

    @property
    def closing(self) -> bool:
        """Whether no further job begins."""
        return self._closing.is_set()

    def try_submit(self, job: Callable[[], None]) -> bool:
        """Queue a job without waiting.

        Args:
            job: what it raises is logged and affects nothing else.

        Returns:
            Whether there was room.
        """
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="background", daemon=True)
            self._thread.start()
        return True

    def close(self) -> None:
        """Let the running job finish, and drop those that wait."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                job = self._jobs.get(timeout=0.2)
            except queue.Empty:
                continue
            began = time.thread_time()
            try:
                job()
            except Exception:
                log.exception("a background job failed")
            self._closing.wait((time.thread_time() - began) * COOLDOWN_RATIO)
