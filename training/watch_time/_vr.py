"""VR: value regression, the plainest watch-time head."""

# Shape suffixes: N exposures, D state.

from __future__ import annotations

from typing import Self

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from training.config import Config
from training.data import Interactions
from training.watch_time._losses import RankError, RankLoss, Regression, regression_loss
from training.watch_time._network import one_hidden_layer


class VRConfig(Config):
    """Hyperparameters of `VR`."""

    hidden: NonNegativeInt = 64
    """Width of the one hidden layer; 0 for a linear head."""

    loss: Regression = "mse"
    """`mse` predicts the mean (the published VR), `l1` the median, `huber` something between."""

    delta: PositiveFloat = 1.0
    """Where Huber turns linear, in units of the mean watch time."""

    rank: NonNegativeFloat = 0.0
    """Weight of the error of the prediction's rank, see `RankLoss`; 0 as published."""

    rank_error: RankError = "squared"
    """Which error of the rank."""


class VR(nn.Module):
    """Seconds straight from the state: ŵ = scale · f(x), trained on w / scale.

        L = mean( (f(x) - w / scale)² )        scale = mean watch time of the training rows

    Dividing by the scale only conditions the optimiser. What is predicted is cut at 0 s, the training
    loss is not: a cut would stop the gradient of exactly those rows that are too low.

    Source: the baseline "VR" of Xu et al., LDA. Ours: `l1`, `huber` and `rank` as options.

    Args:
        state_dim: D.
        config: hyperparameters.
    """

    scale: Tensor

    def __init__(self, state_dim: PositiveInt, config: VRConfig | None = None) -> None:
        super().__init__()
        self.config = config or VRConfig()
        self.net = one_hidden_layer(state_dim, self.config.hidden)
        self.register_buffer("scale", torch.tensor(torch.nan))
        self.rank_loss = RankLoss(self.config.rank_error)

    def fit_tables(self, train: Interactions, *, seed: int) -> Self:
        if not len(train):
            raise ValueError("`train` has no rows to fit VR's scale on.")
        self.scale.fill_(max(float(train.watch_time_s.mean()), 1e-3))
        self.rank_loss.fit(train.watch_time_s)
        return self

    def loss(self, state_ND: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        if bool(self.scale.isnan()):
            raise ValueError("VR has no scale yet, call `fit_tables` first.")
        predicted_N = self.net(state_ND).squeeze(-1)
        loss = regression_loss(
            self.config.loss, predicted_N, watch_time_N / self.scale, delta=self.config.delta
        )
        if self.config.rank:
            loss = loss + self.config.rank * self.rank_loss(predicted_N * self.scale, watch_time_N)
        return loss

    def seconds(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        out: Tensor = self.net(state_ND).squeeze(-1).relu() * self.scale
        return out
