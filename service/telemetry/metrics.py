"""The Prometheus metrics of the service, `reelrank_*`, and their text for all workers."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Summary,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client import values as prometheus_values
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from service.state.policy import RISKS
from service.telemetry.bundles import BundleMetrics
from service.telemetry.calibration import Calibration
from service.telemetry.drift import Drift
from service.telemetry.process import ProcessMetrics
from service.telemetry.served_log import ServedLogMetrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # one more series for each, without use

MULTIPROCESS_DIR: Final = "PROMETHEUS_MULTIPROC_DIR"
"""With several workers each writes its metrics into this folder, and any of them exports those of all."""

BUCKETS_S: Final = (
    0.00025, 0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0,
)  # fmt: skip

BREAKER_STATES: Final = {"closed": 0, "half_open": 1, "open": 2}


@contextmanager
def shared_values(name: str) -> Iterator[None]:
    """Keep the metrics that are made meanwhile in files of the shared folder.

    Args:
        name: of these files. A process of the same name continues their counts: one that is restarted loses
            none, and one that dies again and again leaves no pile of files.
    """
    before = prometheus_values.ValueClass
    prometheus_values.ValueClass = prometheus_values.MultiProcessValue(lambda: name)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        prometheus_values.ValueClass = before


class Metrics:
    """The metrics of one process, in a registry of their own: two apps in one test share no counts."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        counter = partial(Counter, registry=registry)
        summed = partial(Gauge, registry=registry, multiprocess_mode="livesum")
        largest = partial(Gauge, registry=registry, multiprocess_mode="livemax")
        histogram = partial(Histogram, registry=registry, buckets=BUCKETS_S)
        self.requests = counter("reelrank_requests", "Requests answered.", ["route", "method", "status"])
        text = "Time from the request's first byte to the answer's, and its stages."
        self.seconds = histogram("reelrank_request_seconds", text, ["route", "stage"])
        text = "Requests that have begun and not ended."
        self.in_flight = summed("reelrank_requests_in_flight", text)
        text = "Requests that ended in a problem document, and streams in one, by its reason."
        self.refusals = counter("reelrank_refusals", text, ["route", "reason"])
        text = "Events of POST /label by outcome; rejected ones by their code."
        self.events = counter("reelrank_events", text, ["outcome"])
        self.candidates = counter("reelrank_candidates", "Candidates ranked.")
        text = "Slates of users in an experiment, by the arm that answered."
        self.experiments = counter("reelrank_experiment_slates", text, ["experiment", "arm"])
        self.explored = counter("reelrank_explored", "Slates that were drawn instead of sorted.", ["version"])
        text = "Share of the discounted score that a drawn slate gives up."
        self.exploration_loss = Summary("reelrank_exploration_loss", text, ["version"], registry=registry)
        self.degraded = counter("reelrank_degraded", "Responses served in degraded mode.", ["what"])
        text = "Values of a graph that were not finite and were replaced."
        self.nonfinite = counter("reelrank_nonfinite", text, ["output"])
        text = "Calls of the store that failed, by the calls' kind (reads, writes) and the reason."
        self.store_failures = counter("reelrank_store_failures", text, ["calls", "reason"])
        text = "Circuit breaker of the store's reads and of its writes: 0 closed, 1 half open, 2 open."
        self._store_breaker = largest("reelrank_store_breaker_state", text, ["calls"])
        for calls in ("reads", "writes"):
            self.report_breaker(calls, "closed")  # there from the first scrape
        self.store_restarts = counter("reelrank_store_restarts", "Restarts of the embedded store.")
        text = "1 for what may lose events in the store's configuration."
        self._store_risks = largest("reelrank_store_policy_risk", text, ["risk"])
        self.report_store_risks(())
        text = "Permits in use, of candidates, events, streams and bytes of bodies, by cost."
        self.permits = summed("reelrank_in_flight", text, ["what"])
        self.bundles = BundleMetrics(registry)
        self.videos = largest("reelrank_catalogue_videos", "Videos of the in-process catalogue.")
        text = "Users who asked to be forgotten after the ledger that the active bundle was fitted without."
        self._forget_waiting = largest("reelrank_forget_waiting_users", text)
        text = "When the first of them asked, Unix seconds; 0 without any."
        self._forget_since = largest("reelrank_forget_waiting_since_seconds", text)
        text = "Time of one call of the store, failed ones too."
        self.store_seconds = histogram("reelrank_store_seconds", text, ["operation"])
        self.served_log = ServedLogMetrics(registry)
        self.process = ProcessMetrics(registry)
        self.drift = Drift(registry)
        self.calibration = Calibration(registry, _shared_folder())

    def report_breaker(self, calls: str, state: str) -> None:
        """Report the state of a circuit breaker."""
        self._store_breaker.labels(calls).set(BREAKER_STATES[state])

    def report_store_risks(self, found: Collection[str]) -> None:
        """Report which of the risks a store's configuration has."""
        for risk in RISKS:
            self._store_risks.labels(risk).set(risk in found)

    def report_forget_waiting(self, users: int, since_ms: int | None) -> None:
        """Report how many users wait for a bundle that has not seen them, and since when."""
        self._forget_waiting.set(users)
        self._forget_since.set((since_ms or 0) / 1000)

    def report_lag(self, lag_s: float) -> None:
        """Report the worst event-loop lag since the last call, `process.REPORTS_PER_S` times a second."""
        if self.process.report_lag(lag_s):
            self.drift.publish()

    def render(self) -> bytes:
        """Return the Prometheus text of this process, or of all workers. What other workers counted within
        the last second may be missing."""
        self.process.update()
        self.drift.publish()
        exported = CollectorRegistry()
        exported.register(ExportedMetrics(self.registry, self.drift))
        return generate_latest(exported)


class ExportedMetrics(Collector):
    """The metrics of this process or of all workers, with the drift index in place of its windows."""

    def __init__(self, own: CollectorRegistry, drift: Drift) -> None:
        self._own = own
        self._drift = drift

    def collect(self) -> Iterable[Metric]:
        if _shared_folder() is None:  # one worker, or the folder was removed
            return self._drift.with_index(self._own.collect())
        all_workers = MultiProcessCollector(None)  # type: ignore[no-untyped-call]
        return self._drift.with_index(all_workers.collect())  # type: ignore[no-untyped-call]


def _shared_folder() -> Path | None:
    """The folder in which workers share their metrics, if there are several."""
    folder = os.environ.get(MULTIPROCESS_DIR, "")
    return Path(folder) if os.path.isdir(folder) else None
