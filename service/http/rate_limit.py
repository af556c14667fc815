"""How often a key may ask: a token bucket."""

from __future__ import annotations

import time
from collections.abc import Callable


class TokenBucket:
    """Tokens flow in at a constant rate, up to one second's worth; a request takes one.

    Args:
        rate: tokens a second, above 0. Below 1 the bucket still holds one whole token.
        clock: seconds, monotonic.
    """

    __slots__ = ("_at", "_clock", "_most", "_rate", "_tokens")

    def __init__(self, rate: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._most = max(1.0, rate)
        self._tokens = self._most
        self._clock = clock
        self._at = clock()

    def take(self) -> float:
        """Take a token. Returns 0, or in how many seconds there will be one; then nothing was taken."""
        now = self._clock()
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate
