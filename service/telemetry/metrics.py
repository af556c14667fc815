"""What is counted and timed over all requests: Prometheus metrics `reelrank_*`."""

from __future__ import annotations

import os
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from service.telemetry.bundles import BundleMetrics
from service.telemetry.faults import FaultMetrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each, which nobody reads

MULTIPROCESS_DIR: Final = "PROMETHEUS_MULTIPROC_DIR"
"""With several workers each writes its counts into this folder, and any of them can answer for all."""

BUCKETS_S: Final = (
    0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0,
)  # fmt: skip


class Metrics:
    """One process' metrics, in a registry of their own, so that two apps in one test do not share counts."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        self.requests = Counter(
            "reelrank_requests", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self.seconds = Histogram(
            "reelrank_request_seconds",
            "Time from the request's first byte to the answer's, and its stages.",
            ["route", "stage"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.events = Counter(
            "reelrank_events",
            "Events of POST /label by outcome; rejected ones by their code.",
            ["outcome"],
            registry=registry,
        )
        self.candidates = Counter("reelrank_candidates", "Candidates ranked.", registry=registry)
        self.degraded = Counter(
            "reelrank_degraded", "Answers that are less than they could be.", ["what"], registry=registry
        )
        self.nonfinite = Counter(
            "reelrank_nonfinite",
            "Values of a graph that were not finite and were replaced.",
            ["output"],
            registry=registry,
        )
        self.faults = FaultMetrics(registry)
        self.bundles = BundleMetrics(registry)
        self.videos = Gauge(
            "reelrank_catalogue_videos",
            "Entries of the in-process catalogue.",
            multiprocess_mode="livemax",
            registry=registry,
        )

    def render(self) -> bytes:
        """The Prometheus text of this process, or of all workers."""
        if MULTIPROCESS_DIR not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
