"""What a consumer of the stream counts, beside the service's own metrics."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge


class StreamMetrics:
    """Registered with the process' other metrics.

    Args:
        registry: of `Metrics`.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self.processed = counter("reelrank_stream_processed", "Entries whose label was written.")
        self.dead = counter("reelrank_stream_dead", "Entries that went to the dead letters.", ["code"])
        text = "Entries that were given out before and taken up again."
        self.redelivered = counter("reelrank_stream_redelivered", text)
        text = "Entries that could not be worked on this time; they stay pending and come again."
        self.failed = counter("reelrank_stream_failed", text)
        text = "Entries that were deleted from the stream before they were settled."
        self.lost = counter("reelrank_stream_lost", text)
        self.lag = gauge("reelrank_stream_lag", "Entries that no consumer of the group was given yet.")
        self.pending = gauge("reelrank_stream_pending", "Entries that were given out and are not settled.")
