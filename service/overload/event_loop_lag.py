"""How late the event loop is: what a request waits in the kernel before it is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Final

INTERVAL_S: Final = 0.01
"""A tick costs some microseconds; what is late by less than this is not late."""

REPORT_TICKS: Final = 25
"""Ticks between reports: four a second."""


class EventLoopLagMonitor:
    """A timer that is due every 10 ms and measures how late it fires.

    The loop reads what has arrived only when it has done what was ready. The lag is therefore the most that
    the requests which are read now can have waited unread, and no clock of the requests has counted it.

    Args:
        on_lag: called with the lag in seconds at each tick.
        report: called four times a second, for gauges.
    """

    def __init__(self, on_lag: Callable[[float], None], report: Callable[[], None]) -> None:
        self._on_lag = on_lag
        self._report = report
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._ticks = 0
        self._worst_s = 0.0
        self._late_s = 0.0
        self.lag_s = 0.0
        """The larger of the last two ticks, in seconds: what is read after a late tick may come up after the
        next one."""

    def start(self) -> None:
        """Start the timer on the running loop."""
        self._due = perf_counter() + INTERVAL_S
        self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._tick)

    def worst_s(self) -> float:
        """Return the worst lag since the last call, in seconds."""
        worst_s, self._worst_s = self._worst_s, 0.0
        return worst_s

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        before_s, self._late_s = self._late_s, perf_counter() - self._due
        if self._late_s < INTERVAL_S / 2:  # a loop that has nothing to do rounds its timers to milliseconds
            self._late_s = 0.0
        self.lag_s = max(before_s, self._late_s)
        self._worst_s = max(self._worst_s, self._late_s)
        self._ticks += 1
        try:
            self._on_lag(self._late_s)
            if self._ticks % REPORT_TICKS == 0:
                self._report()
        finally:
            self.start()  # whatever failed: without the next tick admission would stand still
