"""What is counted and timed over all requests: Prometheus metrics `reelrank_*`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from service.telemetry.bundles import BundleMetrics
from service.telemetry.drift import Drift
from service.telemetry.faults import FaultMetrics
from service.telemetry.process import ProcessMetrics

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
        self.in_flight = Gauge(
            "reelrank_requests_in_flight",
            "Requests that have begun and not ended.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self.refusals = Counter(
            "reelrank_refusals",
            "Requests that ended in a problem document, and streams in one, by its reason.",
            ["route", "reason"],
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
        self.store_seconds = Histogram(
            "reelrank_store_seconds",
            "Time of one call of the store, failed ones too.",
            ["operation"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.process = ProcessMetrics(registry)
        self.drift = Drift(registry)

    def beat(self, late_s: float) -> None:
        """To be called `process.BEATS` times a second: how late the event loop was since the last time."""
        if self.process.beat(late_s):
            self.drift.publish()

    @property
    def registry(self) -> CollectorRegistry:
        """For metrics of other parts of the same process."""
        return self._registry

    def render(self) -> bytes:
        """The Prometheus text of this process, or of all workers. What others have gathered within the last
        second is not in it yet."""
        self.process.look()
        self.drift.publish()
        shown = CollectorRegistry()
        shown.register(_Shown(self._registry, self.drift))
        return generate_latest(shown)


class _Shown(Collector):
    """What /metrics answers from."""

    def __init__(self, own: CollectorRegistry, drift: Drift) -> None:
        self._own = own
        self._drift = drift

    def collect(self) -> Iterable[Metric]:
        if MULTIPROCESS_DIR not in os.environ:
            return self._drift.shown(self._own.collect())
        everybody = MultiProcessCollector(None)  # type: ignore[no-untyped-call]
        return self._drift.shown(everybody.collect())  # type: ignore[no-untyped-call]
