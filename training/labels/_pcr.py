"""PCR: which share of the video was watched."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from training.data import Interactions
from training.labels._base import duration_s, watch_time_s


class PCR(nn.Module):
    """`y = min(w / d, 1)`, the play completion rate; a replay is a whole play.

    Source: LabelCraft's baseline "PCR"; bounded because its loss sits behind a sigmoid.
    """

    name = "pcr"

    def fit(self, train: Interactions) -> Self:
        return self

    def forward(self, feedback_NF: Tensor) -> Tensor:
        return (watch_time_s(feedback_NF) / duration_s(feedback_NF)).clamp(0.0, 1.0)
