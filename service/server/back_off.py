"""How soon a process that died is started again."""

from __future__ import annotations

from typing import Final

QUICK_S: Final = 10.0
"""A process that lived for less has died quickly."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0


class BackOff:
    """No pause after a first death; after each further quick one a pause that doubles."""

    def __init__(self) -> None:
        self.quick_deaths = 0
        """In a row, so far."""

    def died(self, lived_s: float) -> float:
        """Record a death and return the pause before the next start, in seconds."""
        self.quick_deaths = self.quick_deaths + 1 if lived_s < QUICK_S else 0
        if self.quick_deaths <= 1:
            return 0.0
        return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (self.quick_deaths - 2)))
