"""Drift: the distributions of inputs, labels and predictions against those of the rows the bundle was fitted
on.

Values are counted in the bins of the manifest's `reference`. Of one request at most `SAMPLED` values of each
kind
are taken, evenly spread: values of one slate are much alike, and a slate of 2,000 should neither cost more
nor weigh more than one of 20. They are buffered and counted a few hundred at a time.
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

BUFFERED: Final = 1024
"""Values of one kind that are counted in one go, between two publications."""

WINDOW: Final = 20_000
"""Newest values of one kind that a process compares; somewhat more, as blocks are filled by the buffer."""
BLOCKS: Final = 10
"""The window moves on by one of these."""

MIN_VALUES: Final = 1_000
"""Values below which there is no index: chance alone would make it 0.01 and more."""

_WINDOW_METRIC: Final = "reelrank_drift_window"

Values = npt.NDArray[Any] | Sequence[float]


class Drift:
    """The counters of one process, and the index over those of all.

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
        # Not exported: how workers share their windows, so that the index is of all of them.
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
        """Compare values with this bundle's reference from now on; without one nothing is counted."""
        self.publish()
        for kind, stream in self._streams.items():
            self._set_window(kind, np.zeros_like(stream.window()))
        self._version = manifest.version
        self._streams = {kind: _Stream(histogram) for kind, histogram in manifest.reference.items()}

    def labelled(
        self, version: str, feedback: npt.NDArray[np.float32], by_name: dict[str, list[float]]
    ) -> None:
        """Count events and their labels.

        Args:
            version: of the bundle that labelled; only the active one is counted.
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
            version: of the bundle that ranked; only the active one is counted.
            history_length: exposures in the ranker's input.
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
        for kind, stream in self._streams.items():
            fresh = stream.publish()
            if fresh is None:
                continue
            for index, count in enumerate(fresh.tolist()):
                if count:
                    self._values.labels(kind, index, self._version).inc(count)
            self._set_window(kind, stream.window())

    def with_index(self, families: Iterable[Metric]) -> Iterable[Metric]:
        """Return metrics of this process, or of all, with the index in place of the windows."""
        windows: dict[str, Counts] = {}
        for family in families:
            if family.name != _WINDOW_METRIC:
                yield family
                continue
            for sample in family.samples:
                kind, bin_index = sample.labels["what"], int(sample.labels["bin"])
                stream = self._streams.get(kind)
                if stream is not None and sample.labels["version"] == self._version:
                    windows.setdefault(kind, stream.zeros())[bin_index] += int(sample.value)
        index = GaugeMetricFamily(
            "reelrank_drift_psi",
            "Population stability index of the newest values against the bundle's training rows.",
            labels=["what"],
        )
        for kind, window in windows.items():
            if window.sum() >= MIN_VALUES:
                index.add_metric([kind], psi(self._streams[kind].reference.shares, window))
        yield index

    def _set_window(self, kind: str, window: Counts) -> None:
        for index, count in enumerate(window.tolist()):
            self._window.labels(kind, index, self._version).set(count)


class _Stream:
    """Values of one kind: buffered, then counted, then in the window until newer ones replace them."""

    __slots__ = ("_blocks", "_buffer", "_edges", "_fresh", "_size", "reference")

    def __init__(self, reference: Histogram) -> None:
        self.reference = reference
        self._edges = np.array(reference.edges)
        self._buffer: list[Values] = []
        self._size = 0
        self._fresh = self.zeros()
        self._blocks: deque[Counts] = deque([self.zeros()], maxlen=BLOCKS)

    def zeros(self) -> Counts:
        """Return counts of 0."""
        return np.zeros(len(self._edges) + 1, np.int64)

    def take(self, values: Values) -> None:
        self._buffer.append(values)
        self._size += len(values)
        if self._size >= BUFFERED:
            self._count()

    def publish(self) -> Counts | None:
        """Return the counts since the last call; `None` for none."""
        if self._size:
            self._count()
        fresh = self._fresh
        if not fresh.any():
            return None
        self._fresh = self.zeros()
        return fresh

    def window(self) -> Counts:
        """Return the counts of the newest values."""
        total: Counts = np.sum(self._blocks, axis=0)
        return total

    def _count(self) -> None:
        new = counts(self._edges, np.concatenate(self._buffer))
        self._buffer, self._size = [], 0
        self._fresh += new
        if self._blocks[-1].sum() >= WINDOW // BLOCKS:
            self._blocks.append(self.zeros())
        self._blocks[-1] += new
