"""scale(·): seconds to [0, 1], with most of the range left to the long tail."""

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from models.arrays import F32
from models.errors import BadInput


class Scale(nn.Module):
    """Piecewise linear and increasing, with a knee at (v_β, β').

        scale(v) = β' v / v_β                                         0 ≤ v ≤ v_β
                 = 1 - (1 - β') (v_max - v) / (v_max - v_β)           v_β < v ≤ v_max,   1 above

    v_β is the β quantile and v_max the `top` quantile of the training values, so that nine tenths of the
    exposures share the lowest fifth of the range and a single outlier does not squeeze all others.

    Args:
        beta: β, where the knee is.
        at_knee: β', the value there.
        top: the quantile that maps to 1.
        name: what the values are, for messages.
        linear: v / v_max without the knee, LabelCraft's ablation "w/o scaling".

    Source: LabelCraft, WSDM 2024, poster. The released code maps every value above v_β to 0 (its branch is
    never taken); this follows the formula. β ≈ 0.9 is read off the slides' percentile plot, v_max was a
    constant a data set there.
    """

    knee: Tensor
    """v_β in the unit of the values"""
    maximum: Tensor
    """v_max"""

    def __init__(
        self,
        *,
        beta: float = 0.9,
        at_knee: float = 0.2,
        top: float = 0.999,
        name: str = "values",
        linear: bool = False,
    ) -> None:
        super().__init__()
        if not (0 < beta < top <= 1 and 0 < at_knee < 1):
            raise ValueError(
                f"0 < beta < top <= 1 and 0 < at_knee < 1, got beta={beta}, top={top}, at_knee={at_knee}."
            )
        self.beta, self.at_knee, self.top, self.name, self.linear = beta, at_knee, top, name, linear
        self.register_buffer("knee", torch.tensor(1.0))
        self.register_buffer("maximum", torch.tensor(2.0))

    def fit(self, values: F32) -> Self:
        """Read the knee and the maximum off training values `[N]`.

        Raises:
            BadInput: if there are no values, or the β quantile is not above 0: there is nothing to scale.
        """
        knee, maximum = np.quantile(values, [self.beta, self.top]) if len(values) else (0.0, 0.0)
        if not knee > 0:
            raise BadInput(
                f"the {self.beta:g} quantile of {self.name} must be above 0 to scale by it, found {knee:g} "
                f"in {len(values)} rows. Is this a feed whose videos play (tab 1), and the unit seconds?"
            )
        self.knee.fill_(float(knee))
        # Values that tie at the top would leave no room above the knee.
        self.maximum.fill_(max(float(maximum), float(knee) * 1.001))
        return self

    def forward(self, values: Tensor) -> Tensor:
        """Any shape, values ≥ 0 -> the same shape in [0, 1]."""
        if self.linear:
            return (values / self.maximum).clamp(0.0, 1.0)
        below = self.at_knee * values / self.knee
        above = 1.0 - (1.0 - self.at_knee) * (self.maximum - values) / (self.maximum - self.knee)
        return torch.where(values <= self.knee, below, above).clamp(0.0, 1.0)
