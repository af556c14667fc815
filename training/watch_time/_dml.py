"""DML: the watch time's percentile rank and its progress labels, restored to seconds."""

# Shape suffixes: N exposures (any leading dims where a method says `...`), D state, V views.

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from training.config import Config
from training.data import Interactions
from training.strata import DurationGroups, StratifiedQuantiles, falling_masses
from training.watch_time._losses import regression_loss
from training.watch_time._network import one_hidden_layer

_VIEWS: Final = (0.5, 0.75)
"""Shares of a duration group below an effective and a long view."""


class DMLConfig(Config):
    """Hyperparameters of `DML`."""

    hidden: NonNegativeInt = 64
    """Width of the one hidden layer; 0 for a linear head."""

    groups: PositiveInt = 50
    """Duration groups of equal size."""

    steps: PositiveInt = 100
    """Groups of watch time within a duration group."""

    rho: Annotated[float, Field(gt=0.9, le=1)] = 0.97
    """Each group of watch time has this share of the mass of the one below it."""

    min_rows: NonNegativeInt = 50
    """Rows below which a duration group takes the table of all rows."""

    views: NonNegativeFloat = 0.1
    """Weight of the progress labels."""

    loss: Literal["mse", "l1"] = "mse"
    """On the percentile rank: `mse`, or `l1`, whose optimum restored is the median watch time."""


class DML(nn.Module):
    """Regression on the watch-time percentile rank within the duration group, beside two progress labels.

        y = Σ_{m ≤ n} q_m        r, v = σ(f(x))        L = mean( (r - y)² ) + λ mean( BCE(v, 1[w ≥ t_p]) )

    n is the group of watch time that the row falls into among the training rows of videos as long, q_m ∝ ρᵐ
    the groups' masses: coarse among short watches, fine at the top. t_p are the duration group's median and
    upper quartile. Seconds are read back off the group's table at r.

    Source: DML, CIKM 2023, slides. Masses, weights and how the heads are fused are not published: masses and
    λ are ours, and the progress labels only shape the hidden layer. The slides' thresholds by group of user
    and of video are left out, because a head sees neither.

    Args:
        state_dim: D.
        config: hyperparameters.
    """

    def __init__(self, state_dim: PositiveInt, config: DMLConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or DMLConfig()
        self.net = one_hidden_layer(state_dim, c.hidden, 1 + len(_VIEWS))
        self.groups = DurationGroups(c.groups)
        points = falling_masses(c.steps, c.rho)
        self.quantiles = StratifiedQuantiles(c.groups, points, exact=True, min_rows=c.min_rows)
        self.thresholds = StratifiedQuantiles(c.groups, (0.0, *_VIEWS, 1.0), exact=True, min_rows=c.min_rows)

    def fit_tables(self, train: Interactions, *, seed: int) -> Self:
        if not len(train):
            raise ValueError("`train` has no rows to fit DML's groups and quantiles on.")
        group = self.groups.fit(train.duration_s)(torch.from_numpy(train.duration_s)).numpy()
        self.quantiles.fit(train.watch_time_s, group)
        self.thresholds.fit(train.watch_time_s, group)
        return self

    def rank(self, state_ND: Tensor) -> Tensor:
        """Return the `[...]` predicted percentile rank in (0, 1), whatever the duration."""
        out: Tensor = self.net(state_ND)[..., 0].sigmoid()
        return out

    def loss(self, state_ND: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        if not bool(self.quantiles.count[-1]):
            raise ValueError("DML has no quantiles yet, call `fit_tables` first.")
        out_N, group_N = self.net(state_ND), self.groups(duration_N)
        actual_N = self.quantiles.rank(watch_time_N, group_N)
        loss = regression_loss(self.config.loss, out_N[:, 0].sigmoid(), actual_N, delta=1.0)
        threshold_NV = torch.stack(
            [self.thresholds.inverse(torch.full_like(watch_time_N, share), group_N) for share in _VIEWS], 1
        )
        viewed_NV = (watch_time_N[:, None] >= threshold_NV).to(out_N.dtype)
        return loss + self.config.views * binary_cross_entropy_with_logits(out_N[:, 1:], viewed_NV)

    def seconds(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        rank = self.rank(state_ND)
        return self.quantiles.inverse(rank.flatten(), self.groups(duration_N).flatten()).reshape(rank.shape)
