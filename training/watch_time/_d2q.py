"""D2Q: the watch time's quantile among videos as long, restored to seconds."""

# Shape suffixes: N exposures (any leading dims where a method says `...`), D state.

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from training.config import Config
from training.data import Interactions
from training.strata import DurationGroups, StratifiedQuantiles
from training.watch_time._losses import regression_loss
from training.watch_time._network import one_hidden_layer


class D2QSecondsConfig(Config):
    """Hyperparameters of `D2QSeconds`."""

    hidden: NonNegativeInt = 64
    """Width of the one hidden layer; 0 for a linear head."""

    groups: PositiveInt = 50
    """Duration groups of equal size."""

    points: Annotated[int, Field(ge=2)] = 101
    """Rows of each group's quantile table."""

    min_rows: NonNegativeInt = 50
    """Rows below which a group takes the table of all rows."""

    loss: Literal["mse", "l1"] = "mse"
    """On the quantile: `mse` as published, or `l1`, whose optimum restored is the median watch time."""


class D2QSeconds(nn.Module):
    """Regression on the quantile, one network for all durations; seconds by the group's own table.

        y = F̂_g(w)        q = σ(f(x))        L = mean( (q - y)² )        ŵ = F̂_g⁻¹(q)

    g is the row's duration group and F̂_g the empirical CDF of its training rows, a table interpolated
    linearly both ways. The duration chooses the table and nothing else: `rank` orders rows by how unusual
    a watch is expected for videos as long, and `seconds` by how long it is.

    Quantiles are in [0, 1] already and need no scale; the sigmoid keeps q where the table has an inverse.
    F̂_g⁻¹ of a mean quantile is not the mean of the watch time, and nearer to its median.

    Source: Zhan et al., "Deconfounding Duration Bias in Watch-time Prediction for Video Recommendation",
    KDD 2022; 50 groups and 101 points as in the ports by the EGMN and DADF authors. Ours: tied watch times
    get the middle of their quantiles, as in the label maker D2Q; the absolute error as an option.

    Args:
        state_dim: D.
        config: hyperparameters.
    """

    def __init__(self, state_dim: PositiveInt, config: D2QSecondsConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or D2QSecondsConfig()
        self.net = one_hidden_layer(state_dim, c.hidden)
        self.groups = DurationGroups(c.groups)
        self.quantiles = StratifiedQuantiles(c.groups, c.points, min_rows=c.min_rows)

    def fit_tables(self, train: Interactions, *, seed: int) -> Self:
        if not len(train):
            raise ValueError("`train` has no rows to fit D2Q's groups and quantiles on.")
        group = self.groups.fit(train.duration_s)(torch.from_numpy(train.duration_s))
        self.quantiles.fit(train.watch_time_s, group.numpy())
        return self

    def rank(self, state_ND: Tensor) -> Tensor:
        """Return the `[...]` predicted quantile in (0, 1), whatever the duration."""
        out: Tensor = self.net(state_ND).squeeze(-1).sigmoid()
        return out

    def loss(self, state_ND: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        if not bool(self.quantiles.count[-1]):
            raise ValueError("D2Q has no quantiles yet, call `fit_tables` first.")
        actual_N = self.quantiles.cdf(watch_time_N, self.groups(duration_N))
        return regression_loss(self.config.loss, self.rank(state_ND), actual_N, delta=1.0)

    def seconds(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        rank = self.rank(state_ND)
        return self.quantiles.inverse(rank.flatten(), self.groups(duration_N).flatten()).reshape(rank.shape)
