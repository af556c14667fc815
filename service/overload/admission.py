"""How much work a process takes on at a time: what is over it is refused at once, or waits where it may.

Work is counted by what it costs, not by requests: candidates of slates, events of labels. Each kind has a
budget of its own, so that a flood of the one leaves room for the other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import perf_counter
from types import TracebackType
from typing import Final

from models.errors import Overloaded
from service.overload.event_loop_lag import INTERVAL_S
from service.settings import Settings

SLATE_COST: Final = 100
"""What a slate costs besides its candidates, in candidates: reading the request, the user's history and its
features take about as long as ranking a hundred."""

LABEL_COST: Final = 20
"""What a request for labels costs besides its events, in events."""

MAX_RETRY_AFTER_S: Final = 30.0
"""Longer than any budget takes to drain, unless nothing drains at all."""

LAG_FRACTION: Final = 0.07
"""Fraction of a slate's deadline that the event loop may lag before the budgets shrink. A request waits about
three turns of the loop, until it is read, for its history and for its ranking; some are longer than the last.
Measured at twice the load on 2 cores: with .15, a tenth of all requests ended at their deadline (503) and p99
was 240 to 690 ms; with this, none did and it was 60 ms."""

SUSTAINED_LAG_FRACTION: Final = 0.2
"""Fraction of a slate's deadline: a loop that was not in time once for so long has more to do than it gets
done. A burst is over by then; of what lasts, more in flight would only wait longer."""

SHRINK: Final = 0.9
"""Factor on a budget at each late tick of the loop, and for each tick that it has missed …"""
FLOOR: Final = 0.1
"""… down to this share of its limit: a few slates, fewer would leave the machine idle between them."""
GROW: Final = 0.01
"""Share of its limit that a budget gets back at each other tick: all of it within a second or two."""

LEARNING_RATE: Final = 0.05
"""Weight of the last request in the running mean of what requests cost."""

RATE_WINDOW_S: Final = 1.0
"""Interval between measurements of the rate of finished work, made only when something is refused."""


class Budget:
    """Cost that may be in flight at a time.

    What costs more than the whole budget is taken when nothing else is in flight: late is better than never.
    How much a machine finishes in time is not known beforehand, so the limit is only the most: see `adapt`.

    Args:
        limit: of the cost.
        name: of what is counted, for messages and metrics.
        setting: that has set the limit, for messages.
        request_cost: what one request costs besides its size.
        clock: seconds that never go back.
    """

    __slots__ = (
        "_clock", "_finished", "_floor", "_measured", "_rate", "_request_cost", "_setting", "_typical",
        "_waiters", "allowed", "limit", "name", "used",
    )  # fmt: skip

    def __init__(
        self,
        limit: int,
        name: str,
        setting: str,
        *,
        request_cost: int = 0,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.limit = limit
        self.allowed = float(limit)
        """Part of the limit that is taken at present."""
        self._floor = limit * FLOOR
        self.name = name
        self.used = 0
        """Cost in flight."""
        self._setting = setting
        self._request_cost = request_cost
        self._clock = clock
        self._waiters: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._finished = 0
        self._measured = (clock(), 0)
        self._rate = 0.0
        self._typical = 1.0

    @property
    def full(self) -> bool:
        """Whether a request of the typical cost would be refused. This is worth knowing before a request is
        read: under twice the load half of all requests are refused, and reading them would take the time that
        the others need."""
        return not self._fits(self._typical)

    def adapt(self, late: bool, ticks: float = 1.0) -> None:
        """Take on less while the event loop is late, and step by step more when it is not.

        Args:
            late: whether it is.
            ticks: of the lag monitor since the last call.
        """
        if late:
            self.allowed = max(self._floor, self.allowed * SHRINK**ticks)
        elif self.allowed < self.limit:
            self.allowed = min(float(self.limit), self.allowed + self.limit * GROW)

    def take(self, size: int) -> Permit:
        """Return a permit for a request of this size, valid until the end of its `with` block.

        Raises:
            Overloaded: there is no room; it names when there probably will be.
        """
        cost = self._request_cost + size
        if self._waiters or not self._fits(cost):
            raise self.overloaded(cost)
        self.used += cost
        self._typical += (cost - self._typical) * LEARNING_RATE
        return Permit(self, cost)

    async def wait(self, size: int) -> Permit:
        """Return a permit as `take` does, but wait for room, first come first served. For callers whose
        number is bounded."""
        cost = self._request_cost + size
        if self._waiters or not self._fits(cost):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (cost, turn)
            self._waiters.append(entry)
            try:
                await turn  # `_wake_waiters` has counted the cost when this returns
            except asyncio.CancelledError:
                if entry in self._waiters:
                    self._waiters.remove(entry)
                    self._wake_waiters()  # there may be room for those behind it
                elif not turn.cancelled():  # it was counted, and is not used
                    self._release(cost)
                raise
        else:
            self.used += cost
        return Permit(self, cost)

    def overloaded(self, cost: int = 0) -> Overloaded:
        """Return the error for a request that has no room."""
        now, (then, finished) = self._clock(), self._measured
        if now - then >= RATE_WINDOW_S:
            self._rate = (self._finished - finished) / (now - then)
            self._measured = (now, self._finished)
        wait_s = (self.used + cost) / self._rate if self._rate > 0 else 1.0
        return Overloaded(
            f"This process has {self.used} {self.name.replace('_', ' ')} in flight and takes "
            f"{self.allowed:.0f} at a time now, {self.limit} at most ({self._setting}). Repeat the request "
            "after `Retry-After`.",
            reason=self.name,
            retry_after_s=min(wait_s, MAX_RETRY_AFTER_S),
        )

    def _fits(self, cost: float) -> bool:
        return self.used + cost <= self.allowed or not self.used

    def _release(self, cost: int) -> None:
        self.used -= cost
        self._finished += cost
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        while self._waiters and self._fits(self._waiters[0][0]):
            cost, turn = self._waiters.popleft()
            if not turn.done():  # else it was cancelled and has not noticed yet
                self.used += cost
                turn.set_result(None)


class Permit(AbstractContextManager["Permit"]):
    """A share of a budget, released once, at the end of the `with` block."""

    __slots__ = ("_budget", "cost")

    def __init__(self, budget: Budget, cost: int) -> None:
        self._budget = budget
        self.cost = cost

    def add(self, cost: int) -> None:
        """Enlarge the permit.

        Raises:
            Overloaded: there is no room for that.
        """
        if self._budget.used + cost > self._budget.limit:
            raise self._budget.overloaded(cost)
        self._budget.used += cost
        self.cost += cost

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget._release(self.cost)


class Admission:
    """The budgets of one process.

    Args:
        settings: the limits.
    """

    def __init__(self, settings: Settings) -> None:
        events, setting = settings.max_inflight_events, "REELRANK_MAX_INFLIGHT_EVENTS"
        self.candidates = Budget(
            settings.max_inflight_candidates,
            "candidates",
            "REELRANK_MAX_INFLIGHT_CANDIDATES",
            request_cost=SLATE_COST,
        )
        self.events = Budget(max(1, events // 2), "events", f"half of {setting}", request_cost=LABEL_COST)
        self.streamed = Budget(max(1, events - events // 2), "streamed_events", f"half of {setting}")
        """For NDJSON streams, which wait for it. With one budget for both, the waiting side would always
        lose."""
        self.streams = Budget(settings.max_streams, "streams", "REELRANK_MAX_STREAMS")
        self.bodies = Budget(
            settings.max_inflight_body_bytes, "body_bytes", "REELRANK_MAX_INFLIGHT_BODY_BYTES"
        )

        deadline_s = settings.deadline_ms / 1e3
        self._max_lag_s = deadline_s * LAG_FRACTION
        self._max_lagging_s = deadline_s * SUSTAINED_LAG_FRACTION
        self._lagging_s = 0.0

    def adapt(self, lag_s: float) -> None:
        """Adapt the budgets to the event loop's lag at each tick: the work in flight is what makes it late.

        A slate that waits is worth nothing soon, so at the first sign of overload fewer are taken on at a
        time. Labels have longer; they give way only to a loop that is too late for slates.

        Args:
            lag_s: of this tick, in seconds.
        """
        self._lagging_s = self._lagging_s + INTERVAL_S + lag_s if lag_s else 0.0
        late = lag_s > self._max_lag_s
        self.candidates.adapt(late or self._lagging_s > self._max_lagging_s, 1.0 + lag_s / INTERVAL_S)
        self.events.adapt(late)

    def budgets(self) -> tuple[Budget, ...]:
        """Return all budgets, for the gauges."""
        return (self.candidates, self.events, self.streamed, self.streams, self.bodies)
