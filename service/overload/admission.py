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
from service.overload.event_loop_lag import EVERY_S
from service.settings import Settings

SLATE_COST: Final = 100
"""What a slate costs besides its candidates, in candidates: reading the request, the user's history and its
features take about as long as ranking a hundred."""

LABEL_COST: Final = 20
"""What a request for labels costs besides its events, in events."""

MAX_RETRY_AFTER_S: Final = 30.0
"""Longer than any budget takes to drain, unless nothing drains at all."""

LATE_SHARE: Final = 0.07
"""Of a slate's deadline: the loop may be late by so much before less is taken on. A request waits about three
turns of the loop, until it is read, for its history and for its ranking; some are longer than the last.
Measured at twice the load on 2 cores: with .15, a tenth of all requests ended at their deadline (503) and p99
was 240 to 690 ms; with this, none did and it was 60 ms."""

UNREST_SHARE: Final = 0.2
"""Of a slate's deadline: a loop that was not in time once for so long has more to do than it gets done. A
burst is over by then; of what lasts, more in flight would only wait longer."""

SHRINK: Final = 0.9
"""What a budget is multiplied by at each late beat of the loop, and for each that it has missed …"""
FLOOR: Final = 0.1
"""… down to this share of its limit: a few slates, fewer would leave the machine idle between them."""
GROW: Final = 0.01
"""The share of its limit that it gets back at each other beat: all of it within a second or two."""

LEARN: Final = 0.05
"""How much of what is known of the cost of requests is of the last one."""

RATE_WINDOW_S: Final = 1.0
"""The rate at which work gets done is looked at anew so often, and only when something is refused."""


class Budget:
    """Cost that may be in flight at a time.

    What costs more than the whole budget is taken when nothing else is in flight: late is better than never.
    How much a machine gets done in time is not known beforehand, so the limit is only the most: see `adapt`.

    Args:
        limit: of the cost.
        name: of what is counted, for messages and metrics.
        setting: that has set the limit, for messages.
        clock: seconds that never go back.
    """

    __slots__ = (
        "_clock", "_done", "_floor", "_marked", "_rate", "_setting", "_typical", "_waiting",
        "allowed", "limit", "name", "used",
    )  # fmt: skip

    def __init__(
        self,
        limit: int,
        name: str,
        setting: str,
        *,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.limit = limit
        self.allowed = float(limit)
        """Of the limit, what is taken at present."""
        self._floor = limit * FLOOR
        self.name = name
        self.used = 0
        """Cost in flight."""
        self._setting = setting
        self._clock = clock
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._done = 0
        self._marked = (clock(), 0)
        self._rate = 0.0
        self._typical = 1.0

    @property
    def full(self) -> bool:
        """Whether a request like those of late would be refused. It is worth knowing before it is read: under
        twice the load half of all requests are, and reading them would take the time that others need."""
        return not self._fits(self._typical)

    def adapt(self, late: bool, beats: float = 1.0) -> None:
        """Take on less while the event loop is late, and step by step more when it is not.

        Args:
            late: whether it is.
            beats: how many beats have gone by since the last call.
        """
        if late:
            self.allowed = max(self._floor, self.allowed * SHRINK**beats)
        elif self.allowed < self.limit:
            self.allowed = min(float(self.limit), self.allowed + self.limit * GROW)

    def take(self, cost: int) -> Taken:
        """Take on work, until the end of the `with` block.

        Raises:
            Overloaded: there is no room; it says when there probably will be.
        """
        if self._waiting or not self._fits(cost):
            raise self.overloaded(cost)
        self.used += cost
        self._typical += (cost - self._typical) * LEARN
        return Taken(self, cost)

    async def wait(self, cost: int) -> Taken:
        """The same, but wait for room, first come first served. For callers whose number is bounded."""
        if self._waiting or not self._fits(cost):
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            entry = (cost, place)
            self._waiting.append(entry)
            try:
                await place  # `_give` has counted the cost when this returns
            except asyncio.CancelledError:
                if entry in self._waiting:
                    self._waiting.remove(entry)
                    self._let_in()  # there may be room for those behind it
                elif not place.cancelled():  # it was counted, and is not used
                    self._give(cost)
                raise
        else:
            self.used += cost
        return Taken(self, cost)

    def overloaded(self, cost: int = 0) -> Overloaded:
        """What somebody is told for whom there is no room."""
        now, (then, done) = self._clock(), self._marked
        if now - then >= RATE_WINDOW_S:
            self._rate = (self._done - done) / (now - then)
            self._marked = (now, self._done)
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

    def _give(self, cost: int) -> None:
        self.used -= cost
        self._done += cost
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._fits(self._waiting[0][0]):
            next_cost, place = self._waiting.popleft()
            if not place.done():  # done is: cancelled, and not yet told so
                self.used += next_cost
                place.set_result(None)


class Taken(AbstractContextManager["Taken"]):
    """Work that was taken on; given back once, at the end of the `with` block."""

    __slots__ = ("_budget", "cost")

    def __init__(self, budget: Budget, cost: int) -> None:
        self._budget = budget
        self.cost = cost

    def add(self, cost: int) -> None:
        """It turns out to cost more.

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
        self._budget._give(self.cost)


class Admission:
    """The budgets of one process.

    Args:
        settings: the limits.
    """

    def __init__(self, settings: Settings) -> None:
        events, named = settings.max_inflight_events, "REELRANK_MAX_INFLIGHT_EVENTS"
        self.candidates = Budget(
            settings.max_inflight_candidates, "candidates", "REELRANK_MAX_INFLIGHT_CANDIDATES"
        )
        self.events = Budget(max(1, events // 2), "events", f"half of {named}")
        self.streamed = Budget(max(1, events - events // 2), "streamed_events", f"half of {named}")
        """Of NDJSON streams, which wait for it. With one budget for both, whoever waits would always lose."""
        self.streams = Budget(settings.max_streams, "streams", "REELRANK_MAX_STREAMS")
        self.bodies = Budget(
            settings.max_inflight_body_bytes, "body_bytes", "REELRANK_MAX_INFLIGHT_BODY_BYTES"
        )

        self._late_s = settings.deadline_ms / 1e3 * LATE_SHARE
        self._most_unrest_s = settings.deadline_ms / 1e3 * UNREST_SHARE
        self._unrest_s = 0.0

    def adapt(self, lag_s: float) -> None:
        """Hear at each beat how late the event loop is, in seconds. What is taken on is what makes it late.

        A slate that waits is worth nothing soon, so at the first sign of more than gets done there are fewer
        at a time. Labels have longer; they give way only to a loop that is too late for slates.
        """
        self._unrest_s = self._unrest_s + EVERY_S + lag_s if lag_s else 0.0
        late = lag_s > self._late_s
        self.candidates.adapt(late or self._unrest_s > self._most_unrest_s, 1.0 + lag_s / EVERY_S)
        self.events.adapt(late)

    def budgets(self) -> tuple[Budget, ...]:
        """All of them."""
        return (self.candidates, self.events, self.streamed, self.streams, self.bodies)
