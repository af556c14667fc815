"""What the metrics count of each answer of the pipelines."""

from __future__ import annotations

from models.manifest import EXPECTED_SECONDS
from service.pipeline.label import LabelledEvents
from service.pipeline.rerank import RankedSlate
from service.pipeline.validation import REFUSED
from service.telemetry.calibration import REMEMBERED
from service.telemetry.metrics import Metrics
from service.telemetry.trace import current_trace


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
    if EXPECTED_SECONDS in slate.names and metrics.calibration.take_turn():
        _remember(metrics, ranked)


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
    if labelled.query.store:
        for event, stored in zip(labelled.events, labelled.outcomes, strict=True):
            if event.request_id is not None and stored.kind not in REFUSED:
                watch_time_s = stored.event.watch_time_s  # the longest of the exposure's events
                metrics.calibration.compare(event.request_id, event.user_id, event.video_id, watch_time_s)


def _remember(metrics: Metrics, ranked: RankedSlate) -> None:
    """Remember what the first videos of the reply were predicted to be watched."""
    query, slate, arrangement = ranked.query, ranked.slate, ranked.arrangement
    order = slate.order if arrangement is None else arrangement.order
    shown = order[: query.top_k][:REMEMBERED].tolist()
    video_ids = ranked.context.candidates.video_id
    expected_s = slate.predictions[slate.names.index(EXPECTED_SECONDS)]
    metrics.calibration.remember(
        ranked.bundle.manifest.version,
        current_trace().request_id if query.request_id is None else query.request_id,
        query.user_id,
        ((video_ids[i], float(expected_s[i]), float(slate.watch_time_s[i])) for i in shown),
    )
