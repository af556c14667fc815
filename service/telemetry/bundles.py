"""Metrics of bundles: which answer, which are refused, how a shadow differs.

Counters begin at 0 with the process (the service, with several workers) and only grow: they are not reset
when a rollout stops or starts again. Series carry the version, so that figures of one version are never taken
for another's.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary

from models.errors import ReelrankError

BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)


class BundleMetrics:
    """The bundle metrics of one process.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        counter, summary = partial(Counter, registry=registry), partial(Summary, registry=registry)
        gauge = partial(Gauge, registry=registry, multiprocess_mode="livemax")
        self._serving: dict[str, tuple[str, str]] = {}
        self._refused: dict[str, tuple[str, str, str]] = {}
        text = "Slates ordered and events labelled, by the version that did it."
        self.answers = counter("reelrank_answers", text, ["endpoint", "version"])
        text = "Bundles to be swapped in: `loaded` from the disk, `held` in memory already, or `failed`."
        self.reloads = counter("reelrank_bundle_reloads", text, ["outcome"])
        text = "1 for the active bundle."
        self.info = gauge("reelrank_bundle_info", text, ["version", "provider"])
        text = "Of the users a split answers, of the requests a shadow scores; 0 after it stopped."
        self.share = gauge("reelrank_bundle_share", text, ["role", "version"])
        text = "1 for a version that should have a role (current, split, shadow) and cannot be used."
        self.refused = gauge("reelrank_bundle_refused", text, ["role", "version", "reason"])
        text = "Requests sampled for the shadow: compared, dropped because its queue was full, or failed."
        self.shadow = counter("reelrank_shadow", text, ["endpoint", "version", "outcome"])
        self.shadow_seconds = Histogram(
            "reelrank_shadow_seconds",
            "Time the shadow takes for one request.",
            ["endpoint", "version"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.difference = summary(
            "reelrank_shadow_difference",
            "Mean absolute difference to the answer: of a slate's `watch_time_s` (seconds) and `score`, of a "
            "request's labels (`label.<name>`).",
            ["version", "what"],
        )
        self.order = summary(
            "reelrank_shadow_order",
            "Agreement of a slate's two orders: `kendall_tau` (-1 to 1) of the whole slate, `overlap_at_10` "
            "(0 to 1) of the first ten.",
            ["version", "what"],
        )

    def serving(self, version: str, provider: str) -> None:
        """Report the active bundle. The previous one is set to 0: with several workers no series can be
        removed."""
        if (before := self._serving.get("current")) is not None:
            self.info.labels(*before).set(0)
        self._serving["current"] = version, provider
        self.info.labels(version, provider).set(1)

    def rollout(self, role: str, version: str | None, share: float) -> None:
        """Report the version that has a role; `None` if no version has."""
        if (before := self._serving.pop(role, None)) is not None:
            self.share.labels(*before).set(0)
        if version is not None:
            self._serving[role] = role, version
            self.share.labels(role, version).set(share)

    def refuse(self, role: str, version: str, error: ReelrankError) -> None:
        """Report a version that should have a role and cannot be used."""
        self.accept(role)
        self.reloads.labels("failed").inc()
        reason = re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
        self._refused[role] = role, version, reason
        self.refused.labels(role, version, reason).set(1)

    def accept(self, role: str) -> None:
        """Report that no version is refused a role."""
        if (before := self._refused.pop(role, None)) is not None:
            self.refused.labels(*before).set(0)
