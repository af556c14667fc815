"""The token bucket: a rate that may be exceeded in bursts."""

from __future__ import annotations

import time
from collections.abc import Callable


class TokenBucket:
    """Tokens that flow in at a constant rate up to a capacity; each use takes one.

    Args:
        rate: tokens a second, above 0.
        burst: the capacity, at least 1; by default one second's worth, and at least one token.
        clock: seconds, monotonic.
    """

    __slots__ = ("_burst", "_clock", "_filled_at", "_rate", "_tokens")

    def __init__(
        self, rate: float, *, burst: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = rate
        self._burst = self._tokens = max(1.0, rate if burst is None else burst)
        self._clock = clock
        self._filled_at = clock()

    def take(self) -> float:
        """Take a token. Return 0, or the seconds until there is one; then none was taken."""
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate
