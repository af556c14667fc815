"""When a request is sent again, and after how long.

Only what may be repeated, only when nothing was done or no answer came, no sooner than `Retry-After`, within
the caller's deadline, and from a budget: a service that struggles must not get more requests for it.

A few lines of our own: the library for this (stamina) reports each retry through whichever logging package
it finds, which with an unconfigured structlog is standard output, where our commands write their results.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass

from service.client._errors import Busy, Unreachable


@dataclass(frozen=True, slots=True)
class Retries:
    """How often to try, and what it may cost the service."""

    tries: int = 4
    """Times one request is sent at most; 1: never again."""
    first_pause_s: float = 0.1
    """Before the second try; doubles with each further one. Half of each pause is random: clients that
    failed together shall not come back together."""
    longest_pause_s: float = 10.0
    """A service that asks for a longer one is not asked again; the caller is told (`retry_after_s`)."""
    budget: float = 0.1
    """Retries per request, over all requests of a client: at most every tenth request is one."""
    reserve: int = 10
    """Retries that may be saved up; a new client has them."""


class Budget:
    """The retries a client has left. Each request adds a part of one, each retry takes one."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries
        self._left = float(retries.reserve)
        self._lock = threading.Lock()  # a client may be shared by threads

    def earn(self) -> None:
        """A request is being made."""
        with self._lock:
            self._left = min(self._left + self._retries.budget, float(self._retries.reserve))

    def take(self) -> bool:
        """One retry, if there is one."""
        with self._lock:
            if self._left < 1.0:
                return False
            self._left -= 1.0
            return True


class Attempts:
    """The tries of one request.

    Args:
        retries: how many there may be.
        budget: the client's.
        repeatable: whether the request, done twice, is as if done once.
        deadline_s: for all tries and pauses together; `None` is no limit but that of the tries.
    """

    def __init__(
        self, retries: Retries, budget: Budget, *, repeatable: bool, deadline_s: float | None
    ) -> None:
        self._retries = retries
        self._budget = budget
        self._repeatable = repeatable
        self._end = None if deadline_s is None else time.monotonic() + deadline_s
        self._tried = 0
        budget.earn()

    def left_s(self) -> float | None:
        """Seconds until the deadline, at least a millisecond: a try that has none left fails by itself."""
        return None if self._end is None else max(0.001, self._end - time.monotonic())

    def pause_s(self, error: Busy | Unreachable) -> float | None:
        """Seconds to wait before the next try, or `None` if there shall be none."""
        self._tried += 1
        may = self._repeatable or (isinstance(error, Unreachable) and not error.sent)
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
