"""Work in flight, counted by its cost, and what is still admitted beside it."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import perf_counter
from types import TracebackType
from typing import Final

from models.errors import Overloaded
from service.overload.service_time import ServiceTime

DEADLINE_SHARE: Final = 0.7
"""Share of the time a request has left that work in flight may take. The rest is for what is not counted:
bytes that wait in the kernel, and work that takes longer than it did before."""

MAX_RETRY_AFTER_S: Final = 30.0
"""Longer than any budget takes to drain, unless nothing drains at all."""

FAIRNESS: Final = 8
"""What a caller may have in flight, in multiples of what is free (dynamic thresholds; Choudhury and Hahne,
1998). Callers that ask for more than there is get equal parts, and one alone leaves a ninth for the next."""

LEARNING_RATE: Final = 0.05
"""Weight of the last request in the running mean of what requests cost."""

RATE_WINDOW_S: Final = 1.0
"""Interval between measurements of the rate of finished work, made only when something is refused."""


class Budget:
    r"""Cost that may be in flight at a time.

    By Little's law, a request with cost $c$ is done after $(c + \sum_{in flight} c_i) s$, where $s$ is the
    service time of a unit. It is admitted if that is within a share of the time it has left:
    $c + \sum c_i \le \mathtt{DEADLINE\_SHARE} \cdot t / s$. A request larger than all that is admitted when
    nothing else is in flight.

    Args:
        limit: of the cost, whatever the time.
        name: of what is counted, for messages and metrics.
        setting: that has set the limit, for messages.
        request_cost: what one request costs besides its size.
        floor: cost that is admitted whatever the time, so that the process never idles; at most the limit.
        service_time: without one, only the limit counts.
        clock: seconds that never go back.
    """

    __slots__ = (
        "_callers", "_clock", "_floor", "_measured", "_rate", "_request_cost", "_setting", "_typical",
        "_waiters", "finished", "limit", "longest_wait_s", "name", "service_time", "used",
    )  # fmt: skip

    def __init__(
        self,
        limit: int,
        name: str,
        setting: str,
        *,
        request_cost: int = 0,
        floor: int = 0,
        service_time: ServiceTime | None = None,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.limit = limit
        self.name = name
        self.used = 0
        """Cost in flight."""
        self.finished = 0
        """Cost that was in flight before."""
        self.service_time = service_time
        self.longest_wait_s = math.inf
        """Most time that a request is taken to have left."""
        self._callers: Counter[int] = Counter()
        self._floor = min(floor, limit)
        self._setting = setting
        self._request_cost = request_cost
        self._clock = clock
        self._waiters: deque[tuple[int, asyncio.Future[Permit]]] = deque()
        self._measured = (clock(), 0)
        self._rate = 0.0
        self._typical = 1.0

    def capacity(self, time_left_s: float = math.inf) -> float:
        """Return the cost that may be in flight for a request which has so much time left, in seconds."""
        if self.service_time is None:
            return self.limit
        time_s = min(time_left_s, self.longest_wait_s) * DEADLINE_SHARE
        return min(self.limit, max(self._floor, time_s / self.service_time.per_unit_s))

    def check(self, time_left_s: float = math.inf, caller: int = 0) -> None:
        """Refuse a request that is not read yet if one of the typical cost would be refused.

        Under twice the load half of all requests are refused, and reading them would take the time that the
        others need. Raises as `take` does.
        """
        if not self._fits(self._typical, time_left_s, caller):
            raise self._overloaded(self._typical, time_left_s)

    def take(self, size: int, time_left_s: float = math.inf, caller: int = 0) -> Permit:
        """Return a permit for a request of this size, valid until the end of its `with` block.

        Args:
            size: of the request.
            time_left_s: until its deadline.
            caller: of several, between whom capacity is divided fairly; 0 if there is only one.

        Raises:
            Overloaded: there is no room; it names when there probably will be.
        """
        cost = self._request_cost + size
        if self._waiters or not self._fits(cost, time_left_s, caller):
            raise self._overloaded(cost, time_left_s)
        self._typical += (cost - self._typical) * LEARNING_RATE
        return self._permit(cost, caller)

    async def wait(self, size: int) -> Permit:
        """Return a permit as `take` does, but wait for room, first come first served. For callers whose
        number is bounded."""
        cost = self._request_cost + size
        if self._waiters or not self._fits(cost):
            turn: asyncio.Future[Permit] = asyncio.get_running_loop().create_future()
            entry = (cost, turn)
            self._waiters.append(entry)
            try:
                return await turn
            except asyncio.CancelledError:
                if entry in self._waiters:
                    self._waiters.remove(entry)
                    self._wake_waiters()  # there may be room for those behind it
                elif not turn.cancelled():  # there is a permit, and it is not used
                    self._release(cost)
                raise
        return self._permit(cost, 0)

    def _permit(self, cost: int, caller: int) -> Permit:
        self.used += cost
        self._callers[caller] += cost
        return Permit(self, cost, caller)

    def _fits(self, cost: float, time_left_s: float = math.inf, caller: int = 0) -> bool:
        if not self.used:
            return True
        free = self.capacity(time_left_s) - self.used
        return cost <= free and (not caller or self._callers[caller] + cost <= FAIRNESS * free)

    def _overloaded(self, cost: float, time_left_s: float = math.inf) -> Overloaded:
        now, (then, finished) = self._clock(), self._measured
        if now - then >= RATE_WINDOW_S:
            self._rate = (self.finished - finished) / (now - then)
            self._measured = (now, self.finished)
        wait_s = (self.used + cost) / self._rate if self._rate > 0 else 1.0
        detail = f"This process has {self.used} {self.name.replace('_', ' ')} in flight"
        if self.used + cost > self.limit or self.service_time is None:
            detail += f" and takes {self.limit} at a time ({self._setting})."
        else:
            needed_ms = (self.used + cost) * self.service_time.per_unit_s * 1e3
            detail += (
                f", which take about {needed_ms:.0f} ms with this request, and of "
                f"{min(time_left_s, self.longest_wait_s) * 1e3:.0f} ms it admits {DEADLINE_SHARE:.0%}."
            )
        return Overloaded(
            f"{detail} Repeat the request after `Retry-After`.",
            reason=self.name,
            retry_after_s=min(wait_s, MAX_RETRY_AFTER_S),
        )

    def _release(self, cost: int, caller: int = 0, *, succeeded: bool = False) -> None:
        self.used -= cost
        self._callers[caller] -= cost
        self.finished += cost
        if succeeded and self.service_time is not None:
            self.service_time.succeeded(cost)
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        while self._waiters and self._fits(self._waiters[0][0]):
            cost, turn = self._waiters.popleft()
            if not turn.done():  # else it was cancelled and has not noticed yet
                turn.set_result(self._permit(cost, 0))


class Permit(AbstractContextManager["Permit"]):
    """A share of a budget, released once, at the end of the `with` block."""

    __slots__ = ("_budget", "_caller", "cost")

    def __init__(self, budget: Budget, cost: int, caller: int) -> None:
        self._budget = budget
        self._caller = caller
        self.cost = cost

    def add(self, cost: int) -> None:
        """Enlarge the permit.

        Raises:
            Overloaded: there is no room for that.
        """
        if self._budget.used + cost > self._budget.limit:
            raise self._budget._overloaded(cost)
        self._budget.used += cost
        self._budget._callers[self._caller] += cost
        self.cost += cost

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget._release(self.cost, self._caller, succeeded=kind is None)
