"""PC: whether the video was watched to its end."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from training.data import Interactions
from training.labels._base import duration_s, watch_time_s


class PC(nn.Module):
    """`y = 1[w ≥ d]`, play completed; a replay counts once.

    Source: LabelCraft's baseline "PC". The slides print `w > d`, which is never true in logs that cut the
    watch time at the duration; this is ≥.
    """

    name = "pc"

    def fit(self, train: Interactions) -> Self:
        return self

    def forward(self, feedback_NF: Tensor) -> Tensor:
        return (watch_time_s(feedback_NF) >= duration_s(feedback_NF)).to(feedback_NF.dtype)
