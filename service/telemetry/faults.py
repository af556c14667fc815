"""What is counted of trouble and of load: a store that fails, its circuits, the cost of what is under way."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

BREAKER_STATES: Final = {"closed": 0, "half_open": 1, "open": 2}


class FaultMetrics:
    """Metrics of faults and of load.

    Args:
        registry: of the process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.store_failures = Counter(
            "reelrank_store_failures",
            "Calls of the store that failed, by the calls' kind (reads, writes) and the reason.",
            ["calls", "reason"],
            registry=registry,
        )
        self.store_breaker = Gauge(
            "reelrank_store_breaker_state",
            "Circuit breaker of the store's reads and of its writes: 0 closed, 1 half open, 2 open.",
            ["calls"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        for calls in ("reads", "writes"):
            self.breaker(calls, "closed")  # there from the start, to be watched
        self.in_flight = Gauge(
            "reelrank_in_flight",
            "What is under way of candidates, events, streams and bytes of bodies, weighted by its cost.",
            ["what"],
            multiprocess_mode="livesum",
            registry=registry,
        )

    def breaker(self, calls: str, state: str) -> None:
        """A circuit's new state."""
        self.store_breaker.labels(calls).set(BREAKER_STATES[state])
