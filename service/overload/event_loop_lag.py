"""How late the event loop is: what a request waits in the kernel before anybody looks at it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Final

EVERY_S: Final = 0.01
"""A look costs some microseconds; what is late by less than this is not late."""

REPORT: Final = 25
"""Beats between reports: four a second."""


class Beat:
    """A timer that is due every 10 ms and notes how late it was called.

    The loop reads what has arrived only when it has done what was ready. The lag is therefore the most that
    the requests which are read now can have waited unread; no clock of theirs has counted it.

    Args:
        heard: told the lag at each beat.
        report: called four times a second, for gauges.
    """

    def __init__(self, heard: Callable[[float], None], report: Callable[[], None]) -> None:
        self._heard = heard
        self._report = report
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._beats = 0
        self._worst_s = 0.0
        self.lag_s = 0.0
        """Of the last beat, in seconds."""

    def start(self) -> None:
        """Begin, on the running loop."""
        self._due = perf_counter() + EVERY_S
        self._timer = asyncio.get_running_loop().call_later(EVERY_S, self._beat)

    def worst_s(self) -> float:
        """The worst lag since the last call, in seconds."""
        worst_s, self._worst_s = self._worst_s, 0.0
        return worst_s

    def stop(self) -> None:
        """End."""
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        late_s = perf_counter() - self._due
        # A loop that has nothing to do rounds its timers to milliseconds.
        self.lag_s = late_s if late_s > EVERY_S / 2 else 0.0
        self._worst_s = max(self._worst_s, self.lag_s)
        self._heard(self.lag_s)
        self._beats += 1
        if self._beats % REPORT == 0:
            self._report()
        self.start()
