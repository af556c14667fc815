"""What is counted of bundles: which answer, which were refused, how a shadow differs.

Counters begin at 0 with the process (the service, with several workers) and only grow: they are not reset
when a trial ends or begins again. Series carry the version's own name, so that what one version was measured
at is never taken for another's.
"""

from __future__ import annotations

import re
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary

from models.errors import ReelrankError

BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0)


class BundleMetrics:
    """One process' part.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._serving: dict[str, tuple[str, str]] = {}
        self._refused: dict[str, tuple[str, str, str]] = {}
        self.answers = Counter(
            "reelrank_answers",
            "Slates ordered and events labelled, by the version that did it.",
            ["endpoint", "version"],
            registry=registry,
        )
        self.reloads = Counter(
            "reelrank_bundle_reloads",
            "Bundles to be swapped in: `loaded` from the disk, `held` in memory already, or `failed`.",
            ["outcome"],
            registry=registry,
        )
        self.info = Gauge(
            "reelrank_bundle_info",
            "1 for the bundle that answers.",
            ["version", "provider"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.share = Gauge(
            "reelrank_bundle_share",
            "Of the users a split answers, of the requests a shadow scores; 0 when it does no more.",
            ["role", "version"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.refused = Gauge(
            "reelrank_bundle_refused",
            "1 for a version that should have a role (current, split, shadow) and cannot be used.",
            ["role", "version", "reason"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.shadow = Counter(
            "reelrank_shadow",
            "Requests sampled for the shadow: compared, dropped because its queue was full, or failed.",
            ["endpoint", "version", "outcome"],
            registry=registry,
        )
        self.shadow_seconds = Histogram(
            "reelrank_shadow_seconds",
            "What one request takes the shadow.",
            ["endpoint", "version"],
            buckets=BUCKETS_S,
            registry=registry,
        )
        self.difference = Summary(
            "reelrank_shadow_difference",
            "Mean absolute difference to the answer: of a slate's `watch_time_s` (seconds) and `score`, of a "
            "request's labels (`label.<name>`).",
            ["version", "what"],
            registry=registry,
        )
        self.order = Summary(
            "reelrank_shadow_order",
            "How alike a slate's two orders are: `kendall_tau` (-1 to 1) of all of it, `overlap_at_10` (0 to "
            "1) of the two first tens.",
            ["version", "what"],
            registry=registry,
        )

    def serving(self, version: str, provider: str) -> None:
        """This bundle answers from now on. The one before is set to 0: removing it is not possible with
        several workers."""
        if (before := self._serving.get("current")) is not None:
            self.info.labels(*before).set(0)
        self._serving["current"] = version, provider
        self.info.labels(version, provider).set(1)

    def rollout(self, role: str, version: str | None, share: float) -> None:
        """Report the version that has a role from now on; `None` if no version has."""
        if (before := self._serving.pop(role, None)) is not None:
            self.share.labels(*before).set(0)
        if version is not None:
            self._serving[role] = role, version
            self.share.labels(role, version).set(share)

    def refuse(self, role: str, version: str, error: ReelrankError) -> None:
        """This version should have the role and cannot be used."""
        self.accept(role)
        self.reloads.labels("failed").inc()
        reason = re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()
        self._refused[role] = role, version, reason
        self.refused.labels(role, version, reason).set(1)

    def accept(self, role: str) -> None:
        """No version is refused this role any more."""
        if (before := self._refused.pop(role, None)) is not None:
            self.refused.labels(*before).set(0)
