"""A shadow bundle that scores a share of the requests, unseen.

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
from service.pipeline.label import LabelledBatch, LabelledEvents
from service.pipeline.labelling import Labels, label
from service.pipeline.ranking import Slate, fusion_weights, rank
from service.pipeline.rerank import RankedSlate
from service.telemetry.bundles import BundleMetrics

log = logging.getLogger("reelrank.shadow")

Endpoint = Literal["rerank", "label"]

TOP_K: Final = 10
"""Of `overlap_at_10`."""


class Shadow:
    """Draws answers for the shadow, and compares what it would have answered.

    Args:
        submit: queues work that no request waits for; returns whether there was room.
        metrics: what the comparisons are counted in.
    """

    def __init__(self, submit: Callable[[Callable[[], None]], bool], metrics: BundleMetrics) -> None:
        self._submit = submit
        self._metrics = metrics

    def observe_slate(self, ranked: RankedSlate) -> None:
        """Perhaps queue a slate for the shadow to rank, too."""
        if (shadow := ranked.shadow) is not None and _is_drawn(shadow, ranked.bundle):
            self._queue(shadow, "rerank", partial(self._compare_slates, shadow.bundle, ranked))

    def observe_events(self, labelled: LabelledEvents) -> None:
        """Perhaps queue events for the shadow to label, too, with those of the labels that it has."""
        if (shadow := labelled.query.target.serving.shadow) is not None:
            for batch in labelled.batches:
                if batch.exposures and _is_drawn(shadow, batch.bundle):
                    self._queue(shadow, "label", partial(self._compare_labels, shadow.bundle, batch))

    def _compare_slates(self, bundle: Bundle, ranked: RankedSlate) -> None:
        # The weights as the request had them: without any, each bundle takes its own.
        weights = fusion_weights(bundle.manifest, ranked.query.weights)
        other = rank(bundle, ranked.context, weights)
        _check_finite(other.nonfinite)
        version = bundle.manifest.version
        for name, value in slate_differences(ranked.slate, other).items():
            self._metrics.difference.labels(version, name).observe(value)
        for name, value in order_agreement(ranked.slate, other).items():
            self._metrics.order.labels(version, name).observe(value)

    def _compare_labels(self, bundle: Bundle, batch: LabelledBatch) -> None:
        names = [name for name in batch.labels.by_name if name in bundle.manifest.labels]
        events = [exposure.event for exposure in batch.exposures]
        other = label(bundle, events, names, batch.profiles)
        _check_finite(other.nonfinite)
        for name, value in label_differences(batch.labels, other).items():
            self._metrics.difference.labels(bundle.manifest.version, f"label.{name}").observe(value)

    def _queue(self, shadow: LoadedRollout, endpoint: Endpoint, compare: Callable[[], None]) -> None:
        """Queue a comparison; count its outcome and its seconds."""
        version, metrics = shadow.rollout.version, self._metrics

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

        if not self._submit(job):
            metrics.shadow.labels(endpoint, version, "dropped").inc()


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
    common = set(answer.order[:TOP_K].tolist()) & set(other.order[:TOP_K].tolist())
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


def _check_finite(outputs: Sequence[str]) -> None:
    """A value that an answer would have replaced is a failure, not a difference to average."""
    if outputs:
        raise ArithmeticError(f"{outputs[0]} is not finite")
