"""D2Q: how a watch compares with the others of videos as long."""

# Shape suffixes: N rows, F feedback columns, G duration groups, Q points of the quantile table.

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.errors import BadInput
from training.data import Interactions
from training.labels._base import duration_s, watch_time_s


class D2Q(nn.Module):
    """`y = F̂_g(w)`: the empirical quantile of the watch time within its duration group g.

    Exposures are split into groups of equal size by duration, so 30 s of a 30 s video and 30 s of a 10 min
    video no longer look alike. F̂_g is a table of `points` quantiles, interpolated linearly both ways;
    `seconds` is its inverse. Durations outside those seen belong to the first or last group.

    Source: Zhan et al., "Deconfounding Duration Bias in Watch-time Prediction for Video Recommendation",
    KDD 2022; 50 groups and 101 points as in the ports by the EGMN and DADF authors. Ours: tied watch times
    get the middle of their range of quantiles, so that a video everybody skipped at 0 s is labelled low,
    not at the top of its ties.

    Args:
        groups: duration groups. Equal edges are merged: few distinct durations make fewer groups.
        points: rows of each group's table.

    Raises:
        BadInput: from `fit`, without training rows.
    """

    name = "d2q"
    edges: Tensor
    """`[G - 1]` inner edges in seconds, ascending; a duration on an edge belongs above it"""
    table: Tensor
    """`[G, Q]` watch time in seconds at evenly spaced quantiles 0 … 1"""

    def __init__(self, groups: int = 50, points: int = 101) -> None:
        super().__init__()
        if groups < 1 or points < 2:
            raise ValueError(f"`groups` must be at least 1 and `points` 2, got {groups} and {points}.")
        self.groups, self.points = groups, points
        self.register_buffer("edges", torch.zeros(0))
        self.register_buffer("table", torch.zeros(1, points))

    def fit(self, train: Interactions) -> Self:
        if not len(train):
            raise BadInput("D2Q needs training rows to read quantiles off, found none; check the dates.")
        inner = np.quantile(train.duration_s, np.linspace(0, 1, self.groups + 1)[1:-1], method="higher")
        # An edge at the smallest duration would leave the group below it empty.
        edges = np.unique(inner[inner > train.duration_s.min()]).astype(np.float32)
        group = np.searchsorted(edges, train.duration_s, side="right")
        q = np.linspace(0, 1, self.points)
        rows = [np.quantile(train.watch_time_s[group == g], q) for g in range(len(edges) + 1)]
        self.edges = torch.from_numpy(edges)
        self.table = torch.from_numpy(np.stack(rows).astype(np.float32))
        return self

    def forward(self, feedback_NF: Tensor) -> Tensor:
        w_N1 = watch_time_s(feedback_NF)[:, None]
        table_NQ = self._table(duration_s(feedback_NF))
        last = self.points - 1
        # Comparisons and sums, because the ONNX exporter has no searchsorted.
        below_N1 = (table_NQ < w_N1).sum(1, keepdim=True)
        reached_N1 = (table_NQ <= w_N1).sum(1, keepdim=True)
        at_N1 = (below_N1 - 1).clamp(0, last - 1)
        low_N1, high_N1 = table_NQ.gather(1, at_N1), table_NQ.gather(1, at_N1 + 1)
        share_N1 = (w_N1 - low_N1) / (high_N1 - low_N1).clamp_min(torch.finfo(torch.float32).tiny)
        between_N1 = at_N1 + share_N1.clamp(0.0, 1.0)
        tied_N1 = (below_N1 + reached_N1 - 1) / 2
        position_N1 = torch.where(reached_N1 > below_N1, tied_N1, between_N1)
        return (position_N1[:, 0] / last).clamp(0.0, 1.0).to(feedback_NF.dtype)

    def seconds(self, label_N: Tensor, duration_N: Tensor) -> Tensor:
        """F̂_g⁻¹: `[N]` labels and durations -> `[N]` seconds."""
        table_NQ = self._table(duration_N)
        position_N1 = label_N.clamp(0.0, 1.0)[:, None] * (self.points - 1)
        at_N1 = position_N1.floor().long().clamp(0, self.points - 2)
        low_N1, high_N1 = table_NQ.gather(1, at_N1), table_NQ.gather(1, at_N1 + 1)
        return (low_N1 + (position_N1 - at_N1) * (high_N1 - low_N1))[:, 0]

    def _table(self, duration_N: Tensor) -> Tensor:
        # Along axis 1, not -1, and by `embedding`, not by indexing: onnxruntime 1.31 reduces no rows wrongly
        # along a negative axis, and fails to index with them.
        return embedding((duration_N[:, None] >= self.edges).sum(1), self.table)
