"""The highest rate at which an objective holds, on a host that other programs use too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

FIRST: Final = 0.25
"""First rate tried, as a share of the maximum throughput."""
STEP: Final = 1.3
TRIES: Final = 2
"""A rate that fails is tried again, because noise makes a trial fail and hardly ever makes it hold."""


def find_capacity(holds: Callable[[float], bool], max_throughput: float, trials: int) -> float | None:
    """Search from below: up by steps, then once between the last two; the result has to hold again.

    Args:
        holds: runs a trial at a rate and returns whether the objective held.
        max_throughput: nothing above it is tried.
        trials: at most; every trial is the same work, so the search is bounded in time.

    Returns:
        A rate that held twice, or the one that held when the trials ended; `None` if none has.
    """
    remaining = trials

    def holds_once(rate: float) -> bool:
        nonlocal remaining
        for _ in range(TRIES):
            if remaining <= 0:
                return False
            remaining -= 1
            if holds(rate):
                return True
        return False

    best: float | None = None
    rate = max_throughput * FIRST
    while remaining > 0 and holds_once(rate):
        best = rate
        if rate >= max_throughput:
            break
        rate = min(max_throughput, rate * STEP)
    if best is None:
        return None
    if best < max_throughput and remaining > TRIES and holds_once((best + rate) / 2):
        best = (best + rate) / 2
    while remaining > 0 and best > max_throughput * FIRST:
        remaining -= 1
        if holds(best):
            break
        best /= STEP
    return best
