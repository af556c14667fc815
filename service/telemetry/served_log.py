"""Metrics of the served log."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge


class ServedLogMetrics:
    """The metrics of one process.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        text = "Lines for the served log: written, failed (the disk), dropped (the queue was full)."
        self.lines = counter("reelrank_log_lines", text, ["kind", "outcome"])
        text = "Files removed because the served log had grown too large."
        self.removed = counter("reelrank_log_removed_files", text, ["kind"])
        text = "Size of the served log."
        self.bytes = Gauge("reelrank_log_bytes", text, registry=registry, multiprocess_mode="livemax")
