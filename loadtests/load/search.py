"""How much a service carries while it keeps to an objective, on a machine that others use too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

FIRST: Final = 0.25
"""Of the most there is: the first rate tried."""
STEP: Final = 1.3
"""From a rate that held to the next one, until one does not."""
CONFIRMED: Final = 2
"""A rate counts when it has held so often; one that failed gets a second chance, for the noise."""


def capacity(holds: Callable[[float], bool], most: float, trials: int) -> float | None:
    """The highest rate that holds, found from below: upwards by steps, then between the last two.

    Every trial is the same work, so the search is bounded in time. Noise makes a trial fail that should have
    held, hardly ever the other way round, so one failure is not believed and one success is not enough for
    the result.

    Args:
        holds: runs at a rate, and says whether the objective was kept.
        most: nothing above it is tried.
        trials: at most.

    Returns:
        A rate that held twice, or the one that held when the trials ended; `None` if none has.
    """
    left = trials

    def tried(rate: float) -> bool:
        """Once, and again if that failed."""
        nonlocal left
        for _ in range(CONFIRMED):
            if left <= 0:
                return False
            left -= 1
            if holds(rate):
                return True
        return False

    low: float | None = None
    rate = most * FIRST
    while left > 0:
        if not tried(rate):
            break
        low = rate
        if rate >= most:
            break
        rate = min(most, rate * STEP)
    if low is None:
        return None
    # Between what held and what did not, once; and then what was found has to hold again.
    if low < most and left > CONFIRMED and tried((low + rate) / 2):
        low = (low + rate) / 2
    while left > 0 and low > most * FIRST:
        left -= 1
        if holds(low):
            break
        low /= STEP
    return low
