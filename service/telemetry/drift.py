"""Are inputs, labels and predictions still distributed as over the rows that the bundle was fitted on?

Values are counted in the bins of the manifest's `reference`. Of one request at most `SAMPLED` values a kind
are taken, evenly spread: the values of one slate say much the same, and a slate of 2,000 should neither cost
more nor weigh more than one of 20. They are gathered and counted a few hundred at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from models.histogram import Counts, Histogram, counts, psi
from models.manifest import DURATION, HISTORY_LENGTH, LABEL, RANKED, WATCH_RATIO, Manifest

SAMPLED: Final = 16
"""Most values of one kind that are taken from one request."""

GATHERED: Final = 1024
"""Values of one kind that are counted in one go, between two publications."""

WINDOW: Final = 20_000
"""Newest values of one kind that a process compares; somewhat more, as blocks are filled in handfuls."""
BLOCKS: Final = 10
"""The window moves on by one of these."""

LEAST: Final = 1_000
"""Values below which nothing is said: chance alone would give an index of 0.01 and more."""

_WINDOW_METRIC: Final = "reelrank_drift_window"

Values = npt.NDArray[Any] | Sequence[float]


class Drift:
    """One process' part of the counters, and the index over all of them.

    Args:
        registry: where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._values = Counter(
            "reelrank_values",
            "Sampled inputs, labels and predictions by bin of the bundle's reference, 0 the lowest.",
            ["what", "bin", "version"],
            registry=registry,
        )
        # Not shown: what workers tell each other, so that the index is of all of them.
        self._window = Gauge(
            _WINDOW_METRIC,
            "The newest values by bin.",
            ["what", "bin", "version"],
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._version = ""
        self._streams: dict[str, _Stream] = {}

    def serving(self, manifest: Manifest) -> None:
        """From now on values are compared with this bundle's reference; without one nothing is counted."""
        self.publish()
        for what, stream in self._streams.items():
            self._show(what, np.zeros_like(stream.window()))
        self._version = manifest.version
        self._streams = {what: _Stream(histogram) for what, histogram in manifest.reference.items()}

    def labelled(
        self, version: str, feedback: npt.NDArray[np.float32], by_name: dict[str, list[float]]
    ) -> None:
        """Count events and their labels.

        Args:
            version: of the bundle that labelled; another one than that which is compared is left out.
            feedback: `[N, 8]`, see `models.features`.
            by_name: per label its N values.
        """
        streams = self._streams
        if not streams or version != self._version or not len(feedback):
            return
        step = -(-len(feedback) // SAMPLED)
        watched, duration = feedback[::step, 0], feedback[::step, 1]
        if (stream := streams.get(DURATION)) is not None:
            stream.take(duration)
        if (stream := streams.get(WATCH_RATIO)) is not None:
            stream.take(watched / duration)
        for name, values in by_name.items():
            if (stream := streams.get(LABEL + name)) is not None:
                stream.take(values[::step])

    def ranked(
        self, version: str, history_length: int, outputs: Iterable[tuple[str, npt.NDArray[np.float32]]]
    ) -> None:
        """Count a slate.

        Args:
            version: of the bundle that ranked; another one than that which is compared is left out.
            history_length: exposures that the ranker was given.
            outputs: of the ranker, by name, `[N]` each.
        """
        streams = self._streams
        if not streams or version != self._version:
            return
        if (stream := streams.get(HISTORY_LENGTH)) is not None:
            stream.take((history_length,))
        for name, values in outputs:
            if (stream := streams.get(RANKED + name)) is not None:
                stream.take(values[:: -(-len(values) // SAMPLED)])

    def publish(self) -> None:
        """Bring the metrics up to date. Called once a second, and before they are read."""
        for what, stream in self._streams.items():
            fresh = stream.publish()
            if fresh is None:
                continue
            for place, count in enumerate(fresh.tolist()):
                if count:
                    self._values.labels(what, place, self._version).inc(count)
            self._show(what, stream.window())

    def shown(self, families: Iterable[Metric]) -> Iterable[Metric]:
        """The metrics to show, of this process or of all: with the index in the place of the windows."""
        windows: dict[str, Counts] = {}
        for family in families:
            if family.name != _WINDOW_METRIC:
                yield family
                continue
            for sample in family.samples:
                what, place = sample.labels["what"], int(sample.labels["bin"])
                stream = self._streams.get(what)
                if stream is not None and sample.labels["version"] == self._version:
                    windows.setdefault(what, stream.nothing())[place] += int(sample.value)
        index = GaugeMetricFamily(
            "reelrank_drift_psi",
            "Population stability index of the newest values against the bundle's training rows.",
            labels=["what"],
        )
        for what, found in windows.items():
            if found.sum() >= LEAST:
                index.add_metric([what], psi(self._streams[what].reference.shares, found))
        yield index

    def _show(self, what: str, window: Counts) -> None:
        for place, count in enumerate(window.tolist()):
            self._window.labels(what, place, self._version).set(count)


class _Stream:
    """The values of one kind: gathered, then counted, then in the window until newer ones push them out."""

    __slots__ = ("_blocks", "_edges", "_fresh", "_gathered", "_size", "reference")

    def __init__(self, reference: Histogram) -> None:
        self.reference = reference
        self._edges = np.array(reference.edges)
        self._gathered: list[Values] = []
        self._size = 0
        self._fresh = self.nothing()
        self._blocks: deque[Counts] = deque([self.nothing()], maxlen=BLOCKS)

    def nothing(self) -> Counts:
        """No value in any bin."""
        return np.zeros(len(self._edges) + 1, np.int64)

    def take(self, values: Values) -> None:
        self._gathered.append(values)
        self._size += len(values)
        if self._size >= GATHERED:
            self._count()

    def publish(self) -> Counts | None:
        """What was taken since the last call; `None` for nothing."""
        if self._size:
            self._count()
        fresh = self._fresh
        if not fresh.any():
            return None
        self._fresh = self.nothing()
        return fresh

    def window(self) -> Counts:
        """The newest values."""
        total: Counts = np.sum(self._blocks, axis=0)
        return total

    def _count(self) -> None:
        found = counts(self._edges, np.concatenate(self._gathered))
        self._gathered, self._size = [], 0
        self._fresh += found
        if self._blocks[-1].sum() >= WINDOW // BLOCKS:
            self._blocks.append(self.nothing())
        self._blocks[-1] += found
