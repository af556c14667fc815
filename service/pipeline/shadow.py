"""Layers around the pipelines that let a shadow bundle score a share of the requests, unseen.

Nothing here delays a request or fails one: after the answer is computed, a random draw decides, and a drawn
request is put into a bounded queue. A request that the queue has no room for is dropped; a failure is counted
and logged.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Literal

import numpy as np

from models.metrics import xauc
from models.runtime import Bundle
from service.inference.serving_set import LoadedRollout
from service.pipeline.label import LabelledBatch, LabelledEvents, Labelling
from service.pipeline.label_query import LabelQuery
from service.pipeline.labels import Labels, label
from service.pipeline.ports import BackgroundQueue
from service.pipeline.ranking import Slate, fusion_weights, rank
from service.pipeline.rerank import RankedSlate, Rerank
from service.pipeline.rerank_query import RerankBody, RerankQuery
from service.telemetry.bundles import BundleMetrics

log = logging.getLogger("reelrank.shadow")

Endpoint = Literal["rerank", "label"]

TOP_K: Final = 10
"""Of `overlap_at_10`."""


class ShadowedRerank:
    """Has the shadow rank a share of the slates too, and compares.

    Args:
        inner: the pipeline.
        queue: where the shadow's work waits.
        metrics: what the comparisons are counted in.
    """

    def __init__(self, inner: Rerank, queue: BackgroundQueue, metrics: BundleMetrics) -> None:
        self._inner = inner
        self._queue = queue
        self._metrics = metrics

    async def run(self, request: RerankBody | RerankQuery) -> RankedSlate:
        """Run the pipeline, and perhaps queue its slate for the shadow."""
        ranked = await self._inner.run(request)
        shadow = ranked.shadow
        if shadow is not None and _is_drawn(shadow, ranked.bundle):
            _submit(
                self._queue, self._metrics, shadow, "rerank", lambda: self._compare(shadow.bundle, ranked)
            )
        return ranked

    def _compare(self, bundle: Bundle, ranked: RankedSlate) -> None:
        # The weights as the request had them: without any, each bundle takes its own.
        weights = fusion_weights(bundle.manifest, ranked.query.weights)
        other = rank(bundle, ranked.context, weights)
        _check_finite(other.nonfinite)
        version = bundle.manifest.version
        for name, value in slate_differences(ranked.slate, other).items():
            self._metrics.difference.labels(version, name).observe(value)
        for name, value in order_agreement(ranked.slate, other).items():
            self._metrics.order.labels(version, name).observe(value)


class ShadowedLabelling:
    """Has the shadow label a share of the events too, with those of the labels that it has, and compares.

    Args:
        inner: the pipeline.
        queue: where the shadow's work waits.
        metrics: what the comparisons are counted in.
    """

    def __init__(self, inner: Labelling, queue: BackgroundQueue, metrics: BundleMetrics) -> None:
        self._inner = inner
        self._queue = queue
        self._metrics = metrics
        self.target = inner.target

    async def run(self, query: LabelQuery) -> LabelledEvents:
        """Run the pipeline, and perhaps queue its events for the shadow."""
        labelled = await self._inner.run(query)
        shadow = query.target.serving.shadow
        if shadow is not None:
            for batch in labelled.batches:
                if batch.exposures and _is_drawn(shadow, batch.bundle):
                    job = partial(self._compare, shadow.bundle, batch)
                    _submit(self._queue, self._metrics, shadow, "label", job)
        return labelled

    def _compare(self, bundle: Bundle, batch: LabelledBatch) -> None:
        names = [name for name in batch.labels.by_name if name in bundle.manifest.labels]
        events = [exposure.event for exposure in batch.exposures]
        other = label(bundle, events, names, batch.profiles)
        _check_finite(other.nonfinite)
        for name, value in label_differences(batch.labels, other).items():
            self._metrics.difference.labels(bundle.manifest.version, f"label.{name}").observe(value)


def slate_differences(answer: Slate, other: Slate) -> dict[str, float]:
    """Return mean absolute differences over the candidates: `watch_time_s` in seconds, `score`.

    Args:
        answer: N candidates.
        other: the same candidates, in the same order.
    """
    return {
        "watch_time_s": float(np.abs(answer.watch_time_s - other.watch_time_s).mean()),
        "score": float(np.abs(answer.score - other.score).mean()),
    }


def order_agreement(answer: Slate, other: Slate) -> dict[str, float]:
    """Return how much the orders of two slates agree.

    `kendall_tau` is (concordant - discordant pairs) / all pairs of candidates, from -1 (reversed) to 1; a
    slate of one has none. `overlap_at_10` is the share of the first ten that both have, whatever their
    ranks; of a shorter slate, of all its candidates, and then it is 1.
    """
    size = len(answer.order)
    common = set(answer.order[:TOP_K]) & set(other.order[:TOP_K])
    agreement = {"overlap_at_10": len(common) / min(TOP_K, size)}
    ranks = np.empty((2, size))
    ranks[0, answer.order] = ranks[1, other.order] = np.arange(size)
    concordant = xauc(ranks[1], ranks[0])
    if concordant is not None:
        agreement["kendall_tau"] = 2 * concordant - 1
    return agreement


def label_differences(answer: Labels, other: Labels) -> dict[str, float]:
    """Return the mean absolute difference over the events, by label that both have."""
    return {
        name: float(np.abs(np.subtract(values, other.by_name[name])).mean())
        for name, values in answer.by_name.items()
        if name in other.by_name
    }


def _is_drawn(shadow: LoadedRollout, answered: Bundle) -> bool:
    return random.random() < shadow.rollout.share and answered is not shadow.bundle


def _submit(
    queue: BackgroundQueue,
    metrics: BundleMetrics,
    shadow: LoadedRollout,
    endpoint: Endpoint,
    compare: Callable[[], None],
) -> None:
    """Queue a comparison; count its outcome and its seconds."""
    version = shadow.rollout.version

    def job() -> None:
        started = time.perf_counter()
        outcome = "failed"
        try:
            compare()
            outcome = "compared"
        except Exception as e:  # whatever it is, it is the shadow's
            log.warning("shadow %s failed at /%s: %s", version, endpoint, str(e).partition("\n")[0])
        metrics.shadow_seconds.labels(endpoint, version).observe(time.perf_counter() - started)
        metrics.shadow.labels(endpoint, version, outcome).inc()

    if not queue.try_submit(job):
        metrics.shadow.labels(endpoint, version, "dropped").inc()


def _check_finite(outputs: Sequence[str]) -> None:
    """A value that an answer would have replaced is a failure, not a difference to average."""
    if outputs:
        raise ArithmeticError(f"{outputs[0]} is not finite")
