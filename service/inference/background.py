"""Work that nobody waits for: one thread, a bounded queue, and pauses."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

log = logging.getLogger("reelrank.aside")

WAITING: Final = 64
"""Jobs that may wait. More would only be compared later, and hold more memory."""

REST: Final = 9.0
"""Seconds of rest after each second of computing: the thread never takes more than a tenth of a core, however
much is offered; what does not fit is dropped, and counted by whoever offers it.

Resting, and not a low priority for the scheduler: on a busy machine a thread of low priority that holds the
interpreter's lock is not scheduled for long, and every request waits for the lock with it.
"""

END_S: Final = 2.0
"""How long `close` waits for the job in hand."""


class Aside:
    """A thread that starts with the first job."""

    def __init__(self) -> None:
        self._jobs: queue.Queue[Callable[[], None]] = queue.Queue(WAITING)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Jobs that nobody has begun yet."""
        return self._jobs.qsize()

    @property
    def closing(self) -> bool:
        """Whether nothing new is begun any more."""
        return self._closing.is_set()

    def offer(self, job: Callable[[], None]) -> bool:
        """Have it done some time; never waits.

        Args:
            job: what it raises is logged, and of no consequence for anything else.

        Returns:
            Whether there was room.
        """
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            return False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="aside", daemon=True)
            self._thread.start()
        return True

    def close(self) -> None:
        """Let the job in hand finish; those that wait are given up."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(END_S)

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
                log.exception("a job aside failed")
            self._closing.wait((time.thread_time() - began) * REST)
