"""Duration groups: equal shares of the training exposures, short videos to long ones."""

# Shape suffixes: G groups.

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from models.arrays import F32


class DurationGroups(nn.Module):
    """Which of G equal-frequency groups a duration falls into.

    group = #{edges ≤ duration}: comparisons and a sum, which every ONNX runtime has. A duration that is
    itself an edge belongs to the group above. The G - 1 edges are a buffer of fixed size, so that a saved
    head can be read back without its data; durations so concentrated that edges coincide leave the later
    of the twins at +inf, and the groups above empty.

    Args:
        groups: G ≥ 1.

    Raises:
        ValueError: G < 1.
    """

    edges: Tensor

    def __init__(self, groups: int) -> None:
        super().__init__()
        if groups < 1:
            raise ValueError(f"`groups` must be at least 1, got {groups}.")
        self.groups = groups
        self.register_buffer("edges", torch.full((groups - 1,), torch.nan))

    def fit(self, duration: F32) -> Self:
        """Put the edges at the quantiles of `duration`."""
        inner = np.linspace(0, 1, self.groups + 1)[1:-1]
        edges = np.unique(np.quantile(duration, inner)).astype(np.float32)
        edges = edges[edges > duration.min()]  # nothing lies below such an edge
        self.edges.fill_(torch.inf)
        self.edges[: len(edges)] = torch.from_numpy(edges)
        return self

    def forward(self, duration: Tensor) -> Tensor:
        """`[...]` seconds -> `[...]` int64, 0 … G - 1."""
        return how_many(duration[..., None] >= self.edges)


def how_many(true: Tensor) -> Tensor:
    """`[..., Q]` bool -> `[...]` int64, how many are true: what searchsorted is made of, which the ONNX
    exporter does not have."""
    # Added up as float32, exact up to 2^24: onnxruntime 1.31 takes five times as long for int64. And not
    # along -1, where it reduces no rows wrongly.
    return true.to(torch.float32).sum(true.dim() - 1).to(torch.int64)
