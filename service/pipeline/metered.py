"""What the metrics count of each answer of the pipelines."""

from __future__ import annotations

from service.pipeline.label import LabelledEvents
from service.pipeline.rerank import RankedSlate
from service.telemetry.metrics import Metrics


def count_slate(metrics: Metrics, ranked: RankedSlate) -> None:
    """Count a slate, its candidates, and its predictions for drift."""
    slate, version = ranked.slate, ranked.bundle.manifest.version
    metrics.candidates.inc(len(slate.order))
    metrics.bundles.answers.labels("rerank", version).inc()
    if ranked.assigned is not None:
        metrics.experiments.labels(ranked.assigned.experiment, ranked.assigned.arm.name).inc()
    if ranked.arrangement is not None and ranked.arrangement.explored is not None:
        metrics.explored.labels(version).inc()
        metrics.exploration_loss.labels(version).observe(ranked.arrangement.explored.loss)
    for component in ranked.degraded:
        metrics.degraded.labels(component).inc()
    for name in slate.nonfinite:
        metrics.nonfinite.labels(name).inc()
    metrics.drift.ranked(version, slate.history_length, zip(slate.names, slate.predictions, strict=True))


def count_events(metrics: Metrics, labelled: LabelledEvents) -> None:
    """Count events by outcome, and their labels by bundle."""
    for outcome, count in labelled.counts.items():
        metrics.events.labels(outcome).inc(count)
    for rejected in labelled.rejected:
        metrics.events.labels(rejected.code).inc()
    for batch in labelled.batches:
        if not batch.exposures:
            continue
        version = batch.bundle.manifest.version
        metrics.bundles.answers.labels("label", version).inc(len(batch.exposures))
        for name in batch.labels.nonfinite:
            metrics.nonfinite.labels(name).inc()
        metrics.drift.labelled(version, batch.labels.feedback, batch.labels.by_name)
