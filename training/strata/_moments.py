"""Mean and deviation of a quantity in each stratum: how many deviations a value lies above its kind."""

# Shape suffixes: N rows, S strata.

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.arrays import F32, I64
from models.errors import BadInput


class StratifiedMoments(nn.Module):
    """`z = (v - μ_s) / σ_s` for each of S strata, with one level of parents.

    A stratum of fewer than `min_rows` rows takes the moments of its parent; one whose values are all the same
    has no scale, and z is 0 there. σ is the population's (ddof = 0), so that z has deviation 1 on train.

    Args:
        strata: S ≥ 1.
        min_rows: rows below which a stratum takes its parent's moments.
    """

    count: Tensor
    """`[S + 1]` rows, int64; the last is that of all rows"""
    mean: Tensor
    """`[S + 1]` μ, float64 so that merging is exact"""
    square: Tensor
    """`[S + 1]` Σ (v - μ)², float64"""

    def __init__(self, strata: int, *, min_rows: int = 50) -> None:
        super().__init__()
        if strata < 1:
            raise ValueError(f"`strata` must be at least 1, got {strata}.")
        self.min_rows = min_rows
        self.register_buffer("count", torch.zeros(strata + 1, dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(strata + 1, dtype=torch.float64))
        self.register_buffer("square", torch.zeros(strata + 1, dtype=torch.float64))

    @property
    def strata(self) -> int:
        """S."""
        return len(self.count) - 1

    def fit(self, values: F32, stratum: I64) -> Self:
        """Read the moments off `[N]` values and their strata, 0 … S - 1.

        Raises:
            BadInput: without rows.
        """
        if not len(values):
            raise BadInput("means need rows to be read off, found none; check the dates of the split.")
        v = values.astype(np.float64)
        count = np.append(np.bincount(stratum, minlength=self.strata), len(v)).astype(np.int64)
        total = np.append(np.bincount(stratum, v, minlength=self.strata), v.sum())
        mean = total / np.maximum(count, 1)
        square = np.bincount(stratum, (v - mean[stratum]) ** 2, minlength=self.strata)
        self.count, self.mean = torch.from_numpy(count), torch.from_numpy(mean)
        self.square = torch.from_numpy(np.append(square, ((v - mean[-1]) ** 2).sum()))
        return self

    def merge(self, other: Self) -> Self:
        """The moments of both logs together, exactly those of a fit on all rows; neither is changed.

        Source: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
        Variances", 1979.

        Raises:
            ValueError: another number of strata.
        """
        if self.strata != other.strata:
            raise ValueError(f"moments of {self.strata} and of {other.strata} strata cannot be merged.")
        merged = type(self)(self.strata, min_rows=self.min_rows)
        merged.count = self.count + other.count
        both = merged.count.clamp(min=1)
        apart = other.mean - self.mean
        merged.mean = (self.count * self.mean + other.count * other.mean) / both
        merged.square = self.square + other.square + apart**2 * self.count * other.count / both
        return merged

    def thick(self, stratum_N: Tensor) -> Tensor:
        """`[N]` whether a row's stratum has enough rows to answer for itself."""
        return embedding(stratum_N, (self.count >= self.min_rows)[:, None].float())[:, 0] > 0

    def z(self, value_N: Tensor, stratum_N: Tensor) -> Tensor:
        """`[N]` values and their strata -> `[N]` deviations above the mean. N may be 0."""
        row_N = torch.where(self.thick(stratum_N), stratum_N, self.strata)
        deviation = (self.square / self.count.clamp(min=1)).sqrt()
        moments_N2 = embedding(row_N, torch.stack([self.mean, deviation], 1).float())
        has_scale = moments_N2[:, 1] > 0
        z_N = (value_N - moments_N2[:, 0]) / torch.where(has_scale, moments_N2[:, 1], 1.0)
        return torch.where(has_scale, z_N, 0.0)
