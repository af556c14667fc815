"""How the labels of a bundle differ from those of the one before, counted batch by batch."""

# Shape suffixes: N rows of a batch.

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Self

import numpy as np

from models.arrays import F64

BINS: Final = 200
"""Of the shift's distribution, over [0, 1]."""
MOVED: Final = 0.05
"""A row has moved if its percentile has shifted by more than this."""


class LabelChange:
    """Sums over the rows of one label, which add up over batches and partitions.

    The shift of a row is the absolute difference of its percentiles, or of its labels where one of the
    bundles knows no percentiles.
    """

    def __init__(self, sums: Mapping[str, Any] | None = None) -> None:
        self._moments = np.array(sums["moments"] if sums else np.zeros(6))
        self._shifts = np.array(sums["shifts"] if sums else np.zeros(BINS), np.int64)
        self._moved = int(sums["moved"]) if sums else 0
        self._shift = float(sums["shift"]) if sums else 0.0

    def add(self, before_N: F64, after_N: F64, shift_N: F64) -> None:
        """Count a batch: the labels of both bundles, and the shifts."""
        self._moments += [
            len(before_N),
            before_N.sum(),
            after_N.sum(),
            before_N @ before_N,
            after_N @ after_N,
            before_N @ after_N,
        ]
        self._shifts += np.histogram(shift_N, BINS, (0.0, 1.0))[0]
        self._moved += int(np.count_nonzero(shift_N > MOVED))
        self._shift += float(shift_N.sum())

    def merge(self, other: Self) -> None:
        """Add the rows of another one."""
        self._moments += other._moments
        self._shifts += other._shifts
        self._moved += other._moved
        self._shift += other._shift

    def sums(self) -> dict[str, Any]:
        """Return what makes an equal one."""
        return {
            "moments": self._moments.tolist(),
            "shifts": self._shifts.tolist(),
            "moved": self._moved,
            "shift": self._shift,
        }

    def figures(self) -> dict[str, float | None]:
        """Return the means, their Pearson correlation (`None` where a label is constant), the mean and the
        95th percentile of the shift, and the share of the rows that moved."""
        rows, before, after, before_2, after_2, product = self._moments.tolist()
        variances = (before_2 - before**2 / rows) * (after_2 - after**2 / rows)
        covariance = product - before * after / rows
        return {
            "mean_before": before / rows,
            "mean_after": after / rows,
            "correlation": covariance / variances**0.5 if variances > 1e-9 * rows else None,
            "mean_shift": self._shift / rows,
            "p95_shift": float(np.searchsorted(np.cumsum(self._shifts), 0.95 * rows) + 1) / BINS,
            "moved": self._moved / rows,
        }
