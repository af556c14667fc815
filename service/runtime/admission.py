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
from service.settings import Settings

SLATE_COST: Final = 100
"""What a slate costs besides its candidates, in candidates: reading the request, the user's history and its
features take about as long as ranking a hundred."""

LABEL_COST: Final = 20
"""What a request for labels costs besides its events, in events."""

MAX_RETRY_AFTER_S: Final = 30.0
"""Longer than any budget takes to drain, unless nothing drains at all."""

RATE_WINDOW_S: Final = 1.0
"""The rate at which work gets done is looked at anew so often, and only when something is refused."""


class Budget:
    """Cost that may be in flight at a time.

    What costs more than the whole budget is taken when nothing else is in flight: late is better than never.

    Args:
        limit: of the cost.
        name: of what is counted, for messages and metrics.
        setting: that has set the limit, for messages.
        clock: seconds that never go back.
    """

    __slots__ = ("_clock", "_done", "_marked", "_rate", "_setting", "_waiting", "limit", "name", "used")

    def __init__(
        self, limit: int, name: str, setting: str, *, clock: Callable[[], float] = perf_counter
    ) -> None:
        self.limit = limit
        self.name = name
        self.used = 0
        """Cost in flight."""
        self._setting = setting
        self._clock = clock
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._done = 0
        self._marked = (clock(), 0)
        self._rate = 0.0

    @property
    def full(self) -> bool:
        """Whether anything at all would be refused."""
        return self.used >= self.limit

    def take(self, cost: int) -> Taken:
        """Take on work, until the end of the `with` block.

        Raises:
            Overloaded: there is no room; it says when there probably will be.
        """
        if self._waiting or not self._fits(cost):
            raise self.overloaded(cost)
        self.used += cost
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
            f"This process has {self.used} {self.name.replace('_', ' ')} in flight and takes {self.limit} at "
            f"a time ({self._setting}). Repeat the request after `Retry-After`.",
            reason=self.name,
            retry_after_s=min(wait_s, MAX_RETRY_AFTER_S),
        )

    def _fits(self, cost: int) -> bool:
        return self.used + cost <= self.limit or not self.used

    def _give(self, cost: int) -> None:
        self.used -= cost
        self._done += cost
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

    def budgets(self) -> tuple[Budget, ...]:
        """All of them."""
        return (self.candidates, self.events, self.streamed, self.streams, self.bodies)
