"""WT: the watch time itself."""

from __future__ import annotations

from typing import Self

from torch import Tensor

from training.data import Interactions
from training.labels._base import LabelMaker, watch_time_s
from training.labels._scale import Scale


class WT(LabelMaker):
    """`y = scale(w)`: how long it was watched, however long the video is.

    Source: LabelCraft's baseline "WT". Its loss sits behind a sigmoid, so seconds must come to [0, 1]; the
    paper does not say how. Ours: the `scale` of its objectives, fitted on train.

    Raises:
        BadInput: from `fit`, if nine rows in ten have no watch time.
    """

    name = "wt"
    description = "watch time, scaled"
    baseline = True

    def __init__(self) -> None:
        super().__init__()
        self.scale = Scale(name="watch time")

    def fit(self, train: Interactions) -> Self:
        self.scale.fit(train.watch_time_s)
        return self

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        label_N: Tensor = self.scale(watch_time_s(feedback_NF))
        return label_N
