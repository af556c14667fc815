"""How values are distributed: fixed bins, the share of the values in each, and how far two of them are apart.

Edges `e_0 < … < e_k` make k+2 bins: below `e_0`, `[e_0, e_1)`, …, `e_k` and above. Nothing falls outside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

LEVELS: Final = (0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99)
"""Quantiles that become edges. The outer two, because many labels are 0 on nine rows of ten."""

FLOOR: Final = 1e-4
"""Least share of a bin in `psi`: its logarithm must stay finite where one side has no value at all."""

Counts = npt.NDArray[np.int64]
Values = npt.NDArray[np.floating[Any]] | npt.NDArray[np.int64]


class Histogram(BaseModel):
    """What shares of a sample lie in which bins."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    edges: Annotated[tuple[float, ...], Field(min_length=1, max_length=len(LEVELS))]
    shares: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    """One a bin, so one more than edges; their sum is 1."""
    rows: Annotated[int, Field(gt=0, le=2**53)]
    """Values of the sample."""

    @model_validator(mode="after")
    def _is_a_distribution(self) -> Histogram:
        if not all(math.isfinite(e) for e in self.edges) or list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"edges must be finite and ascend, found {self.edges}")
        if len(self.shares) != len(self.edges) + 1:
            raise ValueError(
                f"{len(self.edges)} edges make {len(self.edges) + 1} bins, not {len(self.shares)}"
            )
        if not math.isclose(sum(self.shares), 1.0, abs_tol=1e-3):
            raise ValueError(f"shares must add up to 1, found {sum(self.shares):g}")
        return self

    @classmethod
    def from_values(cls, values: Values) -> Histogram:
        """Return the histogram of a sample, with edges at its quantiles `LEVELS`; equal ones become one.

        Args:
            values: `[N]`; those that are not finite are left out.

        Raises:
            ValueError: no finite value is left.
        """
        finite = values[np.isfinite(values)].astype(np.float64)
        if not len(finite):
            raise ValueError("a histogram needs at least one finite value")
        quantiles = np.quantile(finite, LEVELS, method="inverted_cdf")
        edges = np.unique([float(f"{edge:.6g}") for edge in quantiles])
        shares = counts(edges, finite) / len(finite)
        return cls(
            edges=tuple(edges.tolist()),
            shares=tuple(round(share, 6) for share in shares.tolist()),
            rows=len(finite),
        )


def counts(edges: npt.NDArray[np.float64], values: Values) -> Counts:
    """Count the values `[N]` in each bin. None of them may be NaN; infinities lie in the outer bins."""
    return np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)


def psi(reference: Sequence[float], counts: Counts) -> float:
    """Compute the population stability index of counts against a reference.

        PSI = Σ_b (q_b - p_b) · ln(q_b / p_b)      p the reference shares, q the counted ones

    0 for equal shares, never negative, the same in both directions. Common reading: below 0.1 the
    distribution is stable, above 0.25 it has shifted. Chance alone gives about (bins - 1)/N for N values, so
    N should be in the thousands. Both shares of a bin are taken as at least `FLOOR`.

    Args:
        reference: a share for each bin.
        counts: values in each bin.

    Raises:
        ValueError: the bins are not as many, or there is no value.
    """
    total = int(counts.sum())
    if len(reference) != len(counts) or not total:
        raise ValueError(
            f"{len(reference)} shares cannot be compared with {total} values in {len(counts)} bins"
        )
    p = np.maximum(reference, FLOOR)
    q = np.maximum(counts / total, FLOOR)
    return float(((q - p) * np.log(q / p)).sum())
