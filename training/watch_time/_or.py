"""OR: ordinal regression, one question a threshold."""

# Shape suffixes: N exposures (any leading dims where a method says `...`), D state, M thresholds.

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from training.config import Config
from training.data import Interactions
from training.watch_time._base import DistributionModule, Prediction
from training.watch_time._network import one_hidden_layer
from training.watch_time._parts import Parts, weights_from_above


class ORConfig(Config):
    """Hyperparameters of `OR`."""

    hidden: NonNegativeInt = 64
    """Width of the one hidden layer; 0 for a linear head."""

    thresholds: Annotated[int, Field(ge=2)] = 50
    """M, at equal shares of the training rows."""

    point: Literal["restored", "median"] = "restored"
    """What `seconds` answers: the sum over thresholds (published), or the median of the distribution."""


class OR(DistributionModule):
    """Is it watched longer than τ_1, than τ_2, …? One score for all questions, an ordered bias for each.

        P(w > τ_m) = σ(f(x) - b_m)        b_m = b_1 + Σ_{1 < j ≤ m} softplus(δ_j)
        L = mean over rows and thresholds of BCE(P(w > τ_m), 1[w > τ_m])
        ŵ = Σ_m (τ_m - τ_{m-1}) P(w > τ_m) + tail · P(w > τ_M)        τ_0 = 0

    The biases ascend by construction, so that P falls with m and its differences are a distribution over
    the parts between thresholds. They start where the training rows lie: f = 0 is the share of
    all rows.
    Thresholds are quantiles of train; for `tail` see `Parts.restore`.

    Source: the baseline "OR" of Xu et al., LDA, without public details; the shared score with ordered
    biases is the proportional odds model (McCullagh 1980) as CORAL trains it (Cao et al. 2020).

    Args:
        state_dim: D.
        config: hyperparameters.
    """

    def __init__(self, state_dim: PositiveInt, config: ORConfig | None = None) -> None:
        super().__init__()
        self.config = config or ORConfig()
        thresholds = self.config.thresholds
        self.net = one_hidden_layer(state_dim, self.config.hidden)
        self.parts = Parts(thresholds + 1)
        self.first_bias = nn.Parameter(torch.zeros(1))
        self.step = nn.Parameter(torch.zeros(thresholds - 1))

    def fit_tables(self, train: Interactions, *, seed: int) -> Self:
        if not len(train):
            raise ValueError("`train` has no rows to fit OR's thresholds on.")
        thresholds = self.config.thresholds
        share_M = np.arange(1, thresholds + 1) / (thresholds + 1)
        self.parts.fit(train.watch_time_s, share_M)
        bias_M = torch.from_numpy(share_M).logit()
        with torch.no_grad():
            self.first_bias.copy_(bias_M[:1])
            self.step.copy_(bias_M.diff().expm1().log())
        return self

    @property
    def bias(self) -> Tensor:
        """`[M]` b, ascending."""
        return torch.cat([self.first_bias, self.first_bias + softplus(self.step).cumsum(0)])

    def above(self, state_ND: Tensor) -> Tensor:
        """`[..., D]` -> `[..., M]` P(w > τ_m), non-increasing in m."""
        out: Tensor = (self.net(state_ND) - self.bias).sigmoid()
        return out

    def loss(self, state_ND: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        if not self.parts.fitted:
            raise ValueError("OR has no thresholds yet, call `fit_tables` first.")
        logit_NM = self.net(state_ND) - self.bias
        return binary_cross_entropy_with_logits(logit_NM, self.parts.is_above(watch_time_N))

    def predict(self, state_ND: Tensor, duration_N: Tensor) -> Prediction:
        above_NM = self.above(state_ND)
        restored_N = self.parts.restore(above_NM) if self.config.point == "restored" else None
        return self.parts.predict(weights_from_above(above_NM), duration_N, restored_N)

    def crps_s(self, weight_NK: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        return self.parts.crps_s(weight_NK, watch_time_N)
