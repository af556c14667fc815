"""Columns of very different sizes brought to one scale, fitted once on the training rows."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn


class Standardised(nn.Module):
    """(x - mean) / deviation of each column, with the figures of the training rows.

    A layer that reads a count beside a share learns the share last.

    Args:
        columns: how many.
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(columns))
        self.register_buffer("factor", torch.ones(columns))

    def fit(self, x_NF: Tensor) -> Self:
        """Read mean and deviation of `[N, F]` columns; one that hardly varies keeps its scale."""
        deviation_F = x_NF.std(dim=0, correction=0)
        self.mean.copy_(x_NF.mean(dim=0))
        self.factor.copy_(1.0 / torch.where(deviation_F > 1e-3, deviation_F, 1.0))
        return self

    def forward(self, x: Tensor) -> Tensor:
        """`[..., F]` -> `[..., F]`."""
        return (x - self.mean) * self.factor
