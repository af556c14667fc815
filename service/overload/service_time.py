"""How long the process takes for one unit of work, measured while it works."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, process_time
from typing import Final

from service.overload.event_loop_lag import INTERVAL_S

WINDOW_S: Final = 0.25
"""A window ends after this …"""
WINDOW_ANSWERS: Final = 20
"""… or with so many answers …"""
LEAST_ANSWERS: Final = 5
"""… and counts with at least so many: of fewer, most of the time is not theirs."""

BUSY_SHARE: Final = 0.8
"""Share of a window that late ticks took, above which the event loop had no pause in it."""

GAIN: Final = 0.3
"""Weight of the last window in the running mean."""

SLOWER: Final = 1.5
"""Factor of a window without a pause in which nearly nothing succeeded."""


class ServiceTime:
    """Running mean of the seconds a unit of cost takes, over answers that succeeded.

    While the event loop has no pause, that is wall time: other programs on its core count. Otherwise it is
    CPU time: a store that answers slowly leaves room for other work. Answers after their deadline do not
    count as done, or the more of them there are, the faster the process would seem.

    Args:
        initial_s: seconds a unit of cost, before anything is measured.
        longest_s: most that it can become.
        clock: wall time in seconds.
        cpu: CPU time of the process in seconds.
    """

    __slots__ = (
        "_answers", "_clock", "_cost", "_cpu", "_late_s", "_longest_s", "_started", "per_unit_s",
    )  # fmt: skip

    def __init__(
        self,
        initial_s: float,
        longest_s: float,
        *,
        clock: Callable[[], float] = perf_counter,
        cpu: Callable[[], float] = process_time,
    ) -> None:
        self.per_unit_s = initial_s
        self._longest_s = longest_s
        self._clock = clock
        self._cpu = cpu
        self._begin(clock())

    def _begin(self, now: float) -> None:
        self._started = (now, self._cpu())
        self._answers = self._cost = 0
        self._late_s = 0.0

    def succeeded(self, cost: int) -> None:
        """Count an answer that succeeded."""
        self._answers += 1
        self._cost += cost

    def tick(self, lag_s: float) -> None:
        """Close the window if it is due.

        Args:
            lag_s: by which the tick of the event loop is late, in seconds.
        """
        if lag_s > 0:
            self._late_s += INTERVAL_S + lag_s
        now, (started, cpu) = self._clock(), self._started
        if self._answers < WINDOW_ANSWERS and now - started < WINDOW_S:
            return
        busy = self._late_s > BUSY_SHARE * (now - started)
        if self._answers >= LEAST_ANSWERS:
            took_s = now - started if busy else self._cpu() - cpu
            self.per_unit_s += (took_s / self._cost - self.per_unit_s) * GAIN
        elif busy:
            self.per_unit_s *= SLOWER
        self.per_unit_s = min(self.per_unit_s, self._longest_s)
        self._begin(now)
