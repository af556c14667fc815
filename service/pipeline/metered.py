"""Layers around the pipelines that count what they answer."""

from __future__ import annotations

from service.pipeline.label import LabelledEvents, Labelling
from service.pipeline.label_query import LabelQuery
from service.pipeline.rerank import RankedSlate, Rerank
from service.pipeline.rerank_query import RerankBody, RerankQuery
from service.telemetry.metrics import Metrics


class MeteredRerank:
    """Counts the slates of a pipeline.

    Args:
        inner: the pipeline.
        metrics: the counters.
    """

    def __init__(self, inner: Rerank, metrics: Metrics) -> None:
        self._inner = inner
        self._metrics = metrics

    async def run(self, request: RerankBody | RerankQuery) -> RankedSlate:
        """Run the pipeline and count its slate."""
        ranked = await self._inner.run(request)
        metrics, slate, version = self._metrics, ranked.slate, ranked.bundle.manifest.version
        metrics.candidates.inc(len(slate.order))
        metrics.bundles.answers.labels("rerank", version).inc()
        for component in ranked.degraded:
            metrics.degraded.labels(component).inc()
        for name in slate.nonfinite:
            metrics.nonfinite.labels(name).inc()
        metrics.drift.ranked(version, slate.history_length, slate.outputs())
        return ranked


class MeteredLabelling:
    """Counts the events and labels of a pipeline.

    Args:
        inner: the pipeline.
        metrics: the counters.
    """

    def __init__(self, inner: Labelling, metrics: Metrics) -> None:
        self._inner = inner
        self._metrics = metrics
        self.target = inner.target

    async def run(self, query: LabelQuery) -> LabelledEvents:
        """Run the pipeline and count its events by outcome, and its labels by bundle."""
        labelled = await self._inner.run(query)
        metrics = self._metrics
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
        return labelled
