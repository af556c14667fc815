"""SASRec4SV's relevance: a watch well above the usual one of videos about as long."""

# Shape suffixes: N rows, F feedback columns.

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from models.errors import BadInput
from training.data import Interactions
from training.labels._base import LabelMaker, duration_s, watch_time_s
from training.strata import StratifiedMoments

_MINUTE = 60.0


class WTGRelevant(LabelMaker):
    """`y = 1[z > threshold]`, z = (w - μ_m) / σ_m over the exposures of videos as long to the minute (m).

    The last bin holds everything longer; a bin of fewer than `min_rows` rows takes the moments of all rows.

    Source: SASRec4SV's report: one-minute bins up to 20 minutes, relevant beyond one deviation.

    Args:
        minutes: bins.
        threshold: deviations above the mean.
        min_rows: see `StratifiedMoments`.

    Raises:
        BadInput: from `fit`, without training rows.
    """

    name = "wtg_relevant"
    description = "watch time a standard deviation above its minute of duration"

    def __init__(self, minutes: int = 20, threshold: float = 1.0, *, min_rows: int = 50) -> None:
        super().__init__()
        self.threshold = threshold
        self.by_minute = StratifiedMoments(minutes, min_rows=min_rows)

    def fit(self, train: Interactions) -> Self:
        if not len(train):
            raise BadInput(
                "WTG relevance needs training rows to read means off, found none; check the dates."
            )
        self.by_minute.fit(train.watch_time_s, self._minute(torch.from_numpy(train.duration_s)).numpy())
        return self

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        z_N = self.by_minute.z(watch_time_s(feedback_NF), self._minute(duration_s(feedback_NF)))
        return (z_N > self.threshold).to(feedback_NF.dtype)

    def _minute(self, duration_N: Tensor) -> Tensor:
        return (duration_N / _MINUTE).clamp(0, self.by_minute.strata - 1).long()
