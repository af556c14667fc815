"""EF: explicit feedback."""

from __future__ import annotations

from typing import Self

from torch import Tensor

from models.errors import BadInput
from training.data import Interactions
from training.labels._base import LabelMaker, explicit


class EF(LabelMaker):
    """`y = δ(like + follow + comment + forward)`: 1 where the user gave any explicit feedback.

    Source: LabelCraft's baseline "EF". Sparse: one to three rows in a hundred.
    """

    name = "ef"
    description = "any explicit feedback"
    baseline = True

    def fit(self, train: Interactions) -> Self:
        """There is nothing to fit.

        Raises:
            BadInput: no exposure has explicit feedback, so every label would be 0.
        """
        if not train.explicit.any():
            raise BadInput(
                "no exposure has explicit feedback (like, follow, comment, forward): EF is 0 everywhere."
            )
        return self

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        return explicit(feedback_NF)
