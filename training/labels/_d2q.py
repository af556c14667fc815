"""D2Q: how a watch compares with the others of videos as long."""

# Shape suffixes: N rows, F feedback columns.

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from models.errors import BadInput
from training.data import Interactions
from training.labels._base import LabelMaker, duration_s, watch_time_s
from training.strata import DurationGroups, StratifiedQuantiles


class D2Q(LabelMaker):
    """`y = F̂_g(w)`: the empirical quantile of the watch time within its duration group g.

    Exposures are split into groups of equal size by duration, so 30 s of a 30 s video and 30 s of a 10 min
    video no longer look alike. F̂_g is a table of `points` quantiles, interpolated linearly both ways;
    `seconds` is its inverse. Durations outside those seen belong to the first or last group.

    Source: Zhan et al., "Deconfounding Duration Bias in Watch-time Prediction for Video Recommendation",
    KDD 2022; 50 groups and 101 points as in the ports by the EGMN and DADF authors. Ours: tied watch times
    get the middle of their range of quantiles, so that a video that is always skipped at 0 s is labelled low,
    not at the top of its ties; a group of fewer than `min_rows` rows is ranked among all rows.

    Args:
        groups: duration groups. Equal edges are merged: few distinct durations make fewer groups.
        points: rows of each group's table.
        min_rows: see `StratifiedQuantiles`.

    Raises:
        BadInput: from `fit`, without training rows.
    """

    name = "d2q"
    description = "quantile of the watch time within its duration group"
    baseline = True

    def __init__(self, groups: int = 50, points: int = 101, *, min_rows: int = 50) -> None:
        super().__init__()
        self.groups = DurationGroups(groups)
        self.quantiles = StratifiedQuantiles(groups, points, min_rows=min_rows)

    def fit(self, train: Interactions) -> Self:
        if not len(train):
            raise BadInput("D2Q needs training rows to read quantiles off, found none; check the dates.")
        group = self.groups.fit(train.duration_s)(torch.from_numpy(train.duration_s))
        self.quantiles.fit(train.watch_time_s, group.numpy())
        return self

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        return self.quantiles.cdf(watch_time_s(feedback_NF), self.groups(duration_s(feedback_NF)))

    def seconds(self, label_N: Tensor, duration_N: Tensor) -> Tensor:
        """F̂_g⁻¹: `[N]` labels and durations -> `[N]` seconds."""
        return self.quantiles.inverse(label_N, self.groups(duration_N))
