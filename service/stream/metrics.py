"""What a consumer of the stream counts, beside the service's own metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class StreamMetrics:
    """Registered with the process' other metrics.

    Args:
        registry: of `Metrics`.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.processed = Counter(
            "reelrank_stream_processed", "Entries whose label was written.", registry=registry
        )
        self.dead = Counter(
            "reelrank_stream_dead", "Entries that went to the dead letters.", ["code"], registry=registry
        )
        self.redelivered = Counter(
            "reelrank_stream_redelivered",
            "Entries that were given out before and taken up again.",
            registry=registry,
        )
        self.failed = Counter(
            "reelrank_stream_failed",
            "Entries that could not be worked on this time; they stay pending and come again.",
            registry=registry,
        )
        self.lost = Counter(
            "reelrank_stream_lost",
            "Entries that were deleted from the stream before they were settled.",
            registry=registry,
        )
        self.lag = Gauge(
            "reelrank_stream_lag", "Entries that no consumer of the group was given yet.", registry=registry
        )
        self.pending = Gauge(
            "reelrank_stream_pending", "Entries that were given out and are not settled.", registry=registry
        )
