"""When a request is retried, and after how long.

Only idempotent requests, only when nothing was done or no reply came, no sooner than `Retry-After`, within
the caller's deadline, and from a budget: an overloaded service must not get more requests because of it.

Not stamina: it logs each retry through the logging package it finds, which with an unconfigured structlog is
standard output, where our commands write their results.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass

from service.client._errors import Busy, Unreachable


@dataclass(frozen=True, slots=True)
class Retries:
    """How often to try, and how much load retries may add."""

    tries: int = 4
    """Times one request is sent at most; 1 disables retries."""
    first_pause_s: float = 0.1
    """Before the second try; doubles with each further one. Half of each pause is random (jitter), so that
    clients that failed together do not return together."""
    longest_pause_s: float = 10.0
    """If the service asks for a longer one, `Busy` is raised instead (`retry_after_s`)."""
    budget: float = 0.1
    """Retries per request, over all requests of a client."""
    reserve: int = 10
    """Retries that may be saved up; a new client has as many."""


class Budget:
    """Token bucket of a client's retries: each request adds a fraction of one, each retry takes one."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self._left = float(retries.reserve)
        self._lock = threading.Lock()  # a client may be shared by threads

    def earn(self) -> None:
        """Add the fraction of a retry that one request is worth."""
        with self._lock:
            self._left = min(self._left + self._retries.budget, float(self._retries.reserve))

    def take(self) -> bool:
        """Take one retry; `False` if there is none."""
        with self._lock:
            if self._left < 1.0:
                return False
            self._left -= 1.0
            return True


class Attempts:
    """The tries of one request.

    Args:
        retries: number of tries and their pauses.
        budget: of the client.
        idempotent: whether sending the request twice has the effect of sending it once.
        deadline_s: of all tries and pauses together, s; `None` is no limit but the number of tries.
    """

    def __init__(
        self, retries: Retries, budget: Budget, *, idempotent: bool, deadline_s: float | None
    ) -> None:
        self._retries = retries
        self._budget = budget
        self._idempotent = idempotent
        self._end = None if deadline_s is None else time.monotonic() + deadline_s
        self._tried = 0
        budget.earn()

    def left_s(self) -> float | None:
        """Return the seconds until the deadline, at least 0.001; `None` without one."""
        return None if self._end is None else max(0.001, self._end - time.monotonic())

    def pause_s(self, error: Busy | Unreachable) -> float | None:
        """Return the seconds to wait before the next try, or `None` to give up."""
        self._tried += 1
        may = self._idempotent or (isinstance(error, Unreachable) and not error.sent)
        if not may or self._tried >= self._retries.tries:
            return None
        pause_s = self._retries.first_pause_s * 2 ** (self._tried - 1) * random.uniform(0.5, 1.0)
        pause_s = min(pause_s, self._retries.longest_pause_s)
        if isinstance(error, Busy) and error.retry_after_s is not None:
            if error.retry_after_s > self._retries.longest_pause_s:
                return None
            pause_s += error.retry_after_s
        if self._end is not None and time.monotonic() + pause_s >= self._end:
            return None
        return pause_s if self._budget.take() else None
