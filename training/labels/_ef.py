"""EF: explicit feedback."""

from __future__ import annotations

from typing import Self

from torch import Tensor, nn

from training.data import Interactions
from training.labels._base import explicit


class EF(nn.Module):
    """`y = δ(like + follow + comment + forward)`: 1 where the user gave any explicit feedback.

    Source: LabelCraft's baseline "EF". Sparse: one to three rows in a hundred.
    """

    name = "ef"

    def fit(self, train: Interactions) -> Self:
        return self

    def forward(self, feedback_NF: Tensor) -> Tensor:
        return explicit(feedback_NF)
