"""How many log lines of a kind are written: what a stranger sends must not fill a disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Final

from service.token_bucket import TokenBucket

LINES_PER_S: Final = 5.0
"""Of each kind."""
BURST_LINES: Final = 20.0


class LineLimiter:
    """Lets the lines of each kind through at a limited rate, and counts the others."""

    def __init__(self) -> None:
        self._buckets: dict[Hashable, TokenBucket] = {}
        self._suppressed: Counter[Hashable] = Counter()

    def take(self, kind: Hashable) -> int | None:
        """Return how many lines of this kind were dropped since the last one that was not; `None` if this one
        is to be dropped, too."""
        if kind not in self._buckets:
            self._buckets[kind] = TokenBucket(LINES_PER_S, burst=BURST_LINES)
        if self._buckets[kind].take():
            self._suppressed[kind] += 1
            return None
        return self._suppressed.pop(kind, 0)
