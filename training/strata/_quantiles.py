"""One table of quantiles a stratum: how a value compares with the others of its kind, and back."""

# Shape suffixes: N rows, S strata, Q points of a stratum's table.

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.errors import BadInput
from training.data._interactions import F32, I64


class StratifiedQuantiles(nn.Module):
    """F̂_s and F̂_s⁻¹ of one quantity, for each of S strata and for everybody, their parent.

        F̂_s(v) = share of the stratum's rows at or below v, linear between the points of the table

    A stratum of fewer than `thin` rows says little: it answers with its parent's table. Tied values get the
    middle of their range, so that what everybody has (0 s watched) is ranked low and not at the top of its
    ties. Tables are buffers: fitted on train, frozen, exported as they are.

    Args:
        strata: S ≥ 1.
        points: Q ≥ 2, quantiles at 0 … 1 in even steps.
        thin: rows below which a stratum takes its parent's table.
    """

    table: Tensor
    """`[S + 1, Q]` values at the points; the last row is the parent's"""
    count: Tensor
    """`[S + 1]` rows they were read off, int64"""

    def __init__(self, strata: int, points: int = 101, *, thin: int = 50) -> None:
        super().__init__()
        if strata < 1 or points < 2:
            raise ValueError(f"`strata` must be at least 1 and `points` 2, got {strata} and {points}.")
        self.strata, self.points, self.thin = strata, points, thin
        self.register_buffer("table", torch.zeros(strata + 1, points))
        self.register_buffer("count", torch.zeros(strata + 1, dtype=torch.int64))

    def fit(self, values: F32, stratum: I64) -> Self:
        """Read the tables off `[N]` values and their strata, 0 … S - 1.

        Raises:
            BadInput: without rows.
        """
        if not len(values):
            raise BadInput("quantiles need rows to be read off, found none; check the dates of the split.")
        share = np.linspace(0, 1, self.points)
        table = np.zeros((self.strata + 1, self.points))
        order = np.argsort(stratum, kind="stable")
        count = np.bincount(stratum, minlength=self.strata)
        for s, rows in enumerate(np.split(values[order], np.cumsum(count)[:-1])):
            if len(rows):
                table[s] = np.quantile(rows, share)
        table[-1] = np.quantile(values, share)
        self.table = torch.from_numpy(table.astype(np.float32))
        self.count = torch.from_numpy(np.append(count, len(values)).astype(np.int64))
        return self

    def merge(self, other: Self) -> Self:
        """The tables of both logs together, as if fitted on all rows; neither is changed.

        The CDF of a union is the mean of both CDFs by rows; it is read off again at the points, so the
        result differs from a fit on all rows by what lies between two points at most. Thin strata are
        merged like the others: together they may be thin no more.

        Raises:
            ValueError: other strata or points.
        """
        if (self.strata, self.points) != (other.strata, other.points):
            raise ValueError(
                f"tables of {self.strata} strata and {self.points} points and of {other.strata} and "
                f"{other.points} have nothing in common; fit both with the same numbers."
            )
        merged = type(self)(self.strata, self.points, thin=self.thin)
        merged.count = self.count + other.count
        pairs = zip(self.table.numpy(), other.table.numpy(), self.count, other.count, strict=True)
        rows = [_mixture(mine, theirs, int(n), int(m)) for mine, theirs, n, m in pairs]
        merged.table = torch.from_numpy(np.stack(rows).astype(np.float32))
        return merged

    def cdf(self, value_N: Tensor, stratum_N: Tensor) -> Tensor:
        """F̂: `[N]` values and their strata -> `[N]` shares in [0, 1]. N may be 0."""
        value_N1, table_NQ = value_N[:, None], self._rows(stratum_N)
        last = self.points - 1
        # Comparisons and sums, because the ONNX exporter has no searchsorted.
        below_N1 = (table_NQ < value_N1).sum(1, keepdim=True)
        reached_N1 = (table_NQ <= value_N1).sum(1, keepdim=True)
        at_N1 = (below_N1 - 1).clamp(0, last - 1)
        low_N1, high_N1 = table_NQ.gather(1, at_N1), table_NQ.gather(1, at_N1 + 1)
        share_N1 = (value_N1 - low_N1) / (high_N1 - low_N1).clamp_min(torch.finfo(torch.float32).tiny)
        between_N1 = at_N1 + share_N1.clamp(0.0, 1.0)
        tied_N1 = (below_N1 + reached_N1 - 1) / 2
        position_N1 = torch.where(reached_N1 > below_N1, tied_N1, between_N1)
        return (position_N1[:, 0] / last).clamp(0.0, 1.0).to(value_N.dtype)

    def inverse(self, share_N: Tensor, stratum_N: Tensor) -> Tensor:
        """F̂⁻¹: `[N]` shares and strata -> `[N]` values; shares outside [0, 1] are clipped."""
        table_NQ = self._rows(stratum_N)
        position_N1 = share_N.clamp(0.0, 1.0)[:, None] * (self.points - 1)
        at_N1 = position_N1.floor().long().clamp(0, self.points - 2)
        low_N1, high_N1 = table_NQ.gather(1, at_N1), table_NQ.gather(1, at_N1 + 1)
        return (low_N1 + (position_N1 - at_N1) * (high_N1 - low_N1))[:, 0]

    def quantile(self, share: float) -> Tensor:
        """`[S]` F̂_s⁻¹(share) of every stratum: a threshold each."""
        return self.inverse(torch.full((self.strata,), share), torch.arange(self.strata))

    def _rows(self, stratum_N: Tensor) -> Tensor:
        # By `embedding`, not by indexing, which onnxruntime 1.31 fails to do with no rows.
        use_S = torch.where(self.count >= self.thin, torch.arange(self.strata + 1), self.strata)
        return embedding(stratum_N, self.table[use_S])


def _mixture(mine: F32, theirs: F32, n: int, m: int) -> F32:
    """`[Q]` quantiles of n rows that have the table `mine` and m that have `theirs`."""
    if not n or not m:
        return mine if n else theirs
    share = np.linspace(0, 1, len(mine))
    at = np.sort(np.concatenate([mine, theirs]))
    # A step of one table is a jump of its CDF: count what lies at or below a value, ties included.
    cdf = (n * _share_below(mine, share, at) + m * _share_below(theirs, share, at)) / (n + m)
    out: F32 = np.interp(share, cdf, at).astype(np.float32)
    return out


def _share_below(table: F32, share: np.ndarray[tuple[int], np.dtype[np.float64]], at: F32) -> F32:
    """F̂(at), the upper end where values are tied."""
    last = np.searchsorted(table, at, side="right") - 1
    inner = np.clip(last, 0, len(table) - 2)
    step = table[inner + 1] - table[inner]
    part = np.divide(at - table[inner], step, out=np.zeros_like(at), where=step > 0)
    out: F32 = share[inner] + np.clip(part, 0.0, 1.0) * (share[1] - share[0])
    return np.where(last < 0, 0.0, np.where(last >= len(table) - 1, 1.0, out))
