"""The shadow's share of the requests: offered after the answer was computed, scored aside, compared.

Nothing here delays a request or fails one: offering is a random draw, and for those drawn an entry in a
bounded queue. What the queue has no room for is dropped; what fails is counted and logged.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from models.features import Candidates
from models.runtime import Bundle
from models.schema import FeedbackEvent, Profile
from service.inference.serving_set import OnTrial
from service.pipeline.agreement import label_differences, order_agreement, slate_differences
from service.pipeline.labels import Labels, label
from service.pipeline.rerank import Slate, checked_weights, rerank
from service.services import Services
from service.telemetry.bundles import BundleMetrics

log = logging.getLogger("reelrank.shadow")

Endpoint = Literal["rerank", "label"]


def offer_slate(
    services: Services,
    shadow: OnTrial,
    answered: Bundle,
    answer: Slate,
    candidates: Candidates,
    weights: Mapping[str, float] | None,
    **asked: Any,
) -> None:
    """Perhaps have a slate scored by the shadow too.

    Args:
        services: the process'.
        shadow: the bundle and its share.
        answered: the bundle that answered.
        answer: its slate.
        candidates: of that slate.
        weights: as the request had them: without any, each bundle takes its own.
        asked: the further arguments of `rerank`.
    """
    bundle, metrics = shadow.bundle, services.metrics.bundles

    def compare() -> None:
        other = rerank(bundle, candidates, weights=checked_weights(bundle, weights), **asked)
        _check_finite(other.nonfinite)
        version = bundle.manifest.version
        for what, value in slate_differences(answer, other).items():
            metrics.difference.labels(version, what).observe(value)
        for what, value in order_agreement(answer, other).items():
            metrics.order.labels(version, what).observe(value)

    _offer(services, shadow, answered, "rerank", compare)


def offer_labels(
    services: Services,
    shadow: OnTrial,
    answered: Bundle,
    answer: Labels,
    events: Sequence[FeedbackEvent],
    profiles: Mapping[str, Profile],
) -> None:
    """Perhaps have events labelled by the shadow too, by those of the labels that it has.

    Args:
        services: the process'.
        shadow: the bundle and its share.
        answered: the bundle that answered.
        answer: its labels.
        events: at least one.
        profiles: see `label`.
    """
    bundle, metrics = shadow.bundle, services.metrics.bundles

    def compare() -> None:
        names = [name for name in answer.by_name if name in bundle.manifest.labels]
        other = label(bundle, events, names, profiles)
        _check_finite(other.nonfinite)
        for name, value in label_differences(answer, other).items():
            metrics.difference.labels(bundle.manifest.version, f"label.{name}").observe(value)

    _offer(services, shadow, answered, "label", compare)


def _check_finite(outputs: Sequence[str]) -> None:
    """What an answer would have replaced is no difference to be averaged: it is a failure."""
    if outputs:
        raise ArithmeticError(f"{outputs[0]} is not finite")


def _offer(
    services: Services, shadow: OnTrial, answered: Bundle, endpoint: Endpoint, compare: Callable[[], None]
) -> None:
    if random.random() >= shadow.trial.share or answered is shadow.bundle:
        return
    metrics, version = services.metrics.bundles, shadow.trial.version
    if not services.aside.offer(lambda: _counted(metrics, endpoint, version, compare)):
        metrics.shadow.labels(endpoint, version, "dropped").inc()


def _counted(metrics: BundleMetrics, endpoint: Endpoint, version: str, compare: Callable[[], None]) -> None:
    began = time.perf_counter()
    outcome = "failed"
    try:
        compare()
        outcome = "compared"
    except Exception as e:  # whatever it is, it is the shadow's
        log.warning("shadow %s failed at /%s: %s", version, endpoint, str(e).partition("\n")[0])
    metrics.shadow_seconds.labels(endpoint, version).observe(time.perf_counter() - began)
    metrics.shadow.labels(endpoint, version, outcome).inc()
