"""Metrics of faults and of load: failures of the store, its circuit breakers, permits in use."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

BREAKER_STATES: Final = {"closed": 0, "half_open": 1, "open": 2}


class FaultMetrics:
    """The fault and load metrics of one process.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        text = "Calls of the store that failed, by the calls' kind (reads, writes) and the reason."
        self.store_failures = Counter("reelrank_store_failures", text, ["calls", "reason"], registry=registry)
        self.store_breaker = Gauge(
            "reelrank_store_breaker_state",
            "Circuit breaker of the store's reads and of its writes: 0 closed, 1 half open, 2 open.",
            ["calls"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        for calls in ("reads", "writes"):
            self.breaker(calls, "closed")  # there from the first scrape
        self.in_flight = Gauge(
            "reelrank_in_flight",
            "Permits in use, of candidates, events, streams and bytes of bodies, by cost.",
            ["what"],
            multiprocess_mode="livesum",
            registry=registry,
        )

    def breaker(self, calls: str, state: str) -> None:
        """Report the state of a circuit breaker."""
        self.store_breaker.labels(calls).set(BREAKER_STATES[state])
