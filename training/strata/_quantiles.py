"""One table of quantiles a stratum: how a value compares with the others of its kind, and back."""

# Shape suffixes: N rows, S strata, Q points of a stratum's table.

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.arrays import F32, F64, I64
from models.errors import BadInput
from training.strata._groups import how_many

_SMALLEST_MASS: Final = 1e-6
"""Of a group. Shares are float32, whose steps below 1 are 6e-8."""


class StratifiedQuantiles(nn.Module):
    """F̂_s and F̂_s⁻¹ of one quantity, for each of S strata and for all rows, their parent.

        F̂_s(v) = share of the stratum's rows at or below v, linear between the points of the table

    A stratum of fewer than `min_rows` rows answers with its parent's table. Tied values get the
    middle of their range, so that the most common value (0 s watched) is ranked low and not at the top of its
    ties. Tables are buffers: fitted on train, frozen, exported as they are.

    `rank` is the step function beside it: the share up to the next point, one label for all between two.

    Args:
        strata: S ≥ 1.
        points: Q ≥ 2 for quantiles at 0 … 1 in even steps, or the Q shares themselves, from 0 to 1.
        exact: keep values that rows really have, `v` the smallest with a share of rows at or below it of at
            least the point's; otherwise quantiles are interpolated between two rows. With it, nothing here
            but `inverse` between two points changes when values go through an increasing function.
        min_rows: rows below which a stratum takes its parent's table.

    Raises:
        ValueError: no strata, or shares that do not rise from 0 to 1.
    """

    table: Tensor
    """`[S + 1, Q]` values at the points; the last row is the parent's"""
    count: Tensor
    """`[S + 1]` rows they were read off, int64"""
    share: Tensor
    """`[Q]` the points"""

    def __init__(
        self,
        strata: int,
        points: int | Sequence[float] = 101,
        *,
        exact: bool = False,
        min_rows: int = 50,
    ) -> None:
        super().__init__()
        share = np.linspace(0, 1, points) if isinstance(points, int) else np.asarray(points, np.float64)
        if strata < 1 or len(share) < 2:
            raise ValueError(f"`strata` must be at least 1 and `points` 2, got {strata} and {points}.")
        if share[0] != 0 or share[-1] != 1 or (np.diff(share) <= 0).any():
            raise ValueError(f"`points` must rise from 0 to 1, got {points}.")
        self.exact, self.min_rows = exact, min_rows
        self._share: F64 = share
        self.register_buffer("table", torch.zeros(strata + 1, len(share)))
        self.register_buffer("count", torch.zeros(strata + 1, dtype=torch.int64))
        self.register_buffer("share", torch.from_numpy(share.astype(np.float32)))

    @property
    def strata(self) -> int:
        """S. Of the table, because one that is read back may be larger than what was made."""
        return len(self.table) - 1

    def fit(self, values: F32, stratum: I64) -> Self:
        """Read the tables off `[N]` values and their strata, 0 … S - 1; S is a row that belongs to none.

        Raises:
            BadInput: without rows.
        """
        if not len(values):
            raise BadInput("quantiles need rows to be read off, found none; check the dates of the split.")
        strata = self.strata
        table = np.zeros((strata + 1, len(self._share)))
        order = np.argsort(stratum, kind="stable")
        count = np.bincount(stratum, minlength=strata + 1)
        for s, rows in enumerate(np.split(values[order], np.cumsum(count)[:-1])):
            if len(rows):
                table[s] = self._quantiles(rows)
        table[-1] = self._quantiles(values)
        count[-1] = len(values)
        self.table = torch.from_numpy(table.astype(np.float32))
        self.count = torch.from_numpy(count.astype(np.int64))
        return self

    def merge(self, other: Self) -> Self:
        """The tables of both logs together, as if fitted on all rows; neither is changed.

        The CDF of a union is the mean of both CDFs by rows; it is read off again at the points, so the
        result differs from a fit on all rows by what lies between two points at most. Thin strata are
        merged like the others: together they may have enough rows.

        Raises:
            ValueError: other strata or points.
        """
        if self.table.shape != other.table.shape or not self.share.equal(other.share):
            raise ValueError(
                f"tables of {tuple(self.table.shape)} and {tuple(other.table.shape)} strata and points have "
                "nothing in common; fit both with the same numbers."
            )
        merged = type(self)(self.strata, self.share.tolist(), exact=self.exact, min_rows=self.min_rows)
        merged.count = self.count + other.count
        pairs = zip(self.table.numpy(), other.table.numpy(), self.count, other.count, strict=True)
        share = self.share.double().numpy()
        rows = [_mixture(share, a, b, int(n), int(m), self.exact) for a, b, n, m in pairs]
        merged.table = torch.from_numpy(np.stack(rows).astype(np.float32))
        return merged

    def cdf(self, value_N: Tensor, stratum_N: Tensor) -> Tensor:
        """F̂: `[N]` values and their strata -> `[N]` shares in [0, 1]. N may be 0."""
        table_NQ = self._rows(stratum_N)
        below_N1, reached_N1 = self._reached(value_N, table_NQ)
        at_N1 = (below_N1 - 1).clamp(0, table_NQ.shape[1] - 2)
        low_N1, high_N1 = table_NQ.gather(1, at_N1), table_NQ.gather(1, at_N1 + 1)
        part_N1 = (value_N[:, None] - low_N1) / (high_N1 - low_N1).clamp_min(torch.finfo(torch.float32).tiny)
        from_N1, to_N1 = self._share_at(at_N1), self._share_at(at_N1 + 1)
        between_N1 = from_N1 + part_N1.clamp(0.0, 1.0) * (to_N1 - from_N1)
        tied_N1 = (self._share_at(below_N1) + self._share_at(reached_N1 - 1)) / 2
        share_N1 = torch.where(reached_N1 > below_N1, tied_N1, between_N1)
        return share_N1[:, 0].clamp(0.0, 1.0).to(value_N.dtype)

    def rank(self, value_N: Tensor, stratum_N: Tensor) -> Tensor:
        """`[N]` values and their strata -> `[N]` the point at or above each, one of the shares above 0."""
        below_N1, reached_N1 = self._reached(value_N, self._rows(stratum_N))
        return self._share_at(torch.maximum(below_N1, reached_N1 - 1).clamp(min=1))[:, 0].to(value_N.dtype)

    def inverse(self, share_N: Tensor, stratum_N: Tensor) -> Tensor:
        """F̂⁻¹: `[N]` shares and strata -> `[N]` values; shares outside [0, 1] are clipped."""
        table_NQ = self._rows(stratum_N)
        share_N1 = share_N.clamp(0.0, 1.0)[:, None]
        at_N1 = (how_many(share_N1 >= self.share)[:, None] - 1).clamp(0, table_NQ.shape[1] - 2)
        from_N1, to_N1 = self._share_at(at_N1), self._share_at(at_N1 + 1)
        low_N1, high_N1 = table_NQ.gather(1, at_N1), table_NQ.gather(1, at_N1 + 1)
        return (low_N1 + (share_N1 - from_N1) / (to_N1 - from_N1) * (high_N1 - low_N1))[:, 0]

    def quantile(self, share: float) -> Tensor:
        """`[S + 1]` F̂_s⁻¹(share) of every stratum, a threshold each, and of all rows."""
        every = torch.arange(self.strata + 1)
        return self.inverse(torch.full((len(every),), share), every)

    def _quantiles(self, values: F32) -> F64:
        if not self.exact:
            return np.quantile(values, self._share).astype(np.float64)
        # The share of rows at or below the i-th smallest is (i + 1) / n; 1e-9 is what rounding adds to it.
        index = np.ceil(self._share * len(values) - 1e-9).astype(np.int64) - 1
        return np.sort(values)[np.maximum(index, 0)].astype(np.float64)

    def _rows(self, stratum_N: Tensor) -> Tensor:
        # By `embedding`, not by indexing, which onnxruntime 1.31 fails to do with no rows.
        use_S = torch.where(self.count >= self.min_rows, torch.arange(self.strata + 1), self.strata)
        return embedding(stratum_N, self.table[use_S])

    @staticmethod
    def _reached(value_N: Tensor, table_NQ: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, 1]` how many points lie below a value, and how many at or below."""
        value_N1 = value_N[:, None]
        return how_many(table_NQ < value_N1)[:, None], how_many(table_NQ <= value_N1)[:, None]

    def _share_at(self, point_N1: Tensor) -> Tensor:
        last = len(self.share) - 1
        return embedding(point_N1[:, 0].clamp(0, last), self.share[:, None])


def falling_masses(steps: int, rho: float) -> list[float]:
    """Return the shares 0 … 1 at which rows are cut into groups of masses q_n ∝ ρⁿ: coarse at the low end,
    fine at the top; ρ = 1 makes them equal.

    Raises:
        ValueError: ρ outside (0, 1], no group, or ρ so small that float32 does not separate the last groups.
    """
    if not 0 < rho <= 1 or steps < 1:
        raise ValueError(f"`rho` must be in (0, 1] and `steps` at least 1, got {rho} and {steps}.")
    mass = rho ** np.arange(steps)
    if mass[-1] / mass.sum() < _SMALLEST_MASS:
        raise ValueError(f"`rho` {rho} leaves nothing for the last of {steps} `steps`; make it larger.")
    share = np.cumsum(mass)
    return [0.0, *(share / share[-1])[:-1].tolist(), 1.0]


def _mixture(share: F64, first: F32, second: F32, n: int, m: int, exact: bool) -> F32:
    """`[Q]` quantiles of n rows that have the table `first` and m that have `second`."""
    if not n or not m:
        return first if n else second
    values = np.unique(np.concatenate([first, second]))
    below, upto = (
        (n * _share_of(first, share, values, ties) + m * _share_of(second, share, values, ties)) / (n + m)
        for ties in (False, True)
    )
    if exact:  # 1e-6 is what rounding takes from a share
        return np.asarray(values[np.searchsorted(upto + 1e-6, share)], np.float32)
    # Tied values are a jump of the CDF: both its ends, so that every share between them gets that value.
    out: F32 = np.interp(share, np.stack([below, upto], 1).ravel(), values.repeat(2)).astype(np.float32)
    return out


def _share_of(table: F32, share: F64, values: F32, ties: bool) -> F64:
    """F̂(values): what lies below; with `ties` at or below."""
    reached = np.searchsorted(table, values, side="right" if ties else "left")
    low = np.clip(reached - 1, 0, len(table) - 2)
    step = table[low + 1] - table[low]
    part = np.divide(values - table[low], step, out=np.zeros(len(values)), where=step > 0).clip(0.0, 1.0)
    return np.where(reached == len(table), 1.0, share[low] + part * (share[low + 1] - share[low]))
