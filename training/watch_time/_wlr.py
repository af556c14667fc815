"""WLR: weighted logistic regression, odds that are seconds."""

# Shape suffixes: N exposures, D state.

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from training.config import Config
from training.data import Interactions
from training.watch_time._network import one_hidden_layer


class WLRConfig(Config):
    """Hyperparameters of `WLR`."""

    hidden: NonNegativeInt = 64
    """Width of the one hidden layer; 0 for a linear head."""

    negatives: Literal["every", "skips", "below_quantile"] = "every"
    """Which exposures are negatives of weight 1. The three are different estimators, see `WLR`."""

    skip_s: PositiveFloat = 3.0
    """With `skips`: a watch below this, and below the whole video, is a skip."""

    quantile: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """With `below_quantile`: the share of training rows that are negatives."""


class WLR(nn.Module):
    """A logistic regression whose positives weigh their watch time: its odds are seconds.

        L = -mean( v⁺ w/scale · log p + v⁻ · log(1 - p) )        p = σ(f(x))        ŵ = scale · p / (1 - p)

    Which rows are positives (v⁺ = 1) and which negatives (v⁻ = 1) decides what the odds mean:

        every           every exposure is both. The optimum is E[w | x] exactly. The default.
        skips           watched exposures are positives, skips negatives; YouTube's design with "skipped"
                        for "not clicked", since a feed that plays by itself has no clicks. The odds are
                        E[w; watched | x] / P(skip | x), near E[w | x] only where nearly all is skipped, and
                        far above it elsewhere.
        below_quantile  watch times above a quantile of train are positives, the others negatives, and
                        ŵ = odds · (1 - p_c) with P(positive | x) from a second output p_c. That is
                        E[w; positive | x], below the mean by what short watches add.

    `scale` is the mean watch time of the training rows; it centres f at 0, and cancels from ŵ at the optimum.
    No prediction is above the longest watch of train: no mean is, and an exponential could be.

    Source: Covington et al., "Deep Neural Networks for YouTube Recommendations", RecSys 2016; the first
    design as in the ports by the EGMN and DADF authors, the third as in CWM's baseline.

    Args:
        state_dim: D.
        config: hyperparameters.
    """

    scale: Tensor
    longest_s: Tensor
    threshold_s: Tensor

    def __init__(self, state_dim: PositiveInt, config: WLRConfig | None = None) -> None:
        super().__init__()
        self.config = config or WLRConfig()
        outputs = 2 if self.config.negatives == "below_quantile" else 1
        self.net = one_hidden_layer(state_dim, self.config.hidden, outputs)
        for name in ("scale", "longest_s", "threshold_s"):
            self.register_buffer(name, torch.tensor(torch.nan))

    def fit_tables(self, train: Interactions, *, seed: int) -> Self:
        if not len(train):
            raise ValueError("`train` has no rows to fit WLR's scale on.")
        self.scale.fill_(max(float(train.watch_time_s.mean()), 1e-3))
        self.longest_s.fill_(float(train.watch_time_s.max()))
        self.threshold_s.fill_(float(np.quantile(train.watch_time_s, self.config.quantile)))
        return self

    def loss(self, state_ND: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        if bool(self.scale.isnan()):
            raise ValueError("WLR has no scale yet, call `fit_tables` first.")
        logit_N2 = self.net(state_ND)
        logit_N = logit_N2[..., 0]
        positive_N, negative_N = self._roles(duration_N, watch_time_N)
        gain_N = positive_N * (watch_time_N / self.scale) * logsigmoid(logit_N)
        loss = -(gain_N + negative_N * logsigmoid(-logit_N)).mean()
        if self.config.negatives == "below_quantile":
            loss = loss + binary_cross_entropy_with_logits(logit_N2[..., 1], positive_N)
        return loss

    def _roles(self, duration_N: Tensor, watch_time_N: Tensor) -> tuple[Tensor, Tensor]:
        """`[N]` v⁺ and `[N]` v⁻."""
        if self.config.negatives == "every":
            return torch.ones_like(watch_time_N), torch.ones_like(watch_time_N)
        if self.config.negatives == "skips":
            positive_N = watch_time_N >= duration_N.clamp(max=self.config.skip_s)
        else:
            positive_N = watch_time_N > self.threshold_s
        return positive_N.to(watch_time_N.dtype), (~positive_N).to(watch_time_N.dtype)

    def seconds(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        logit_N2 = self.net(state_ND)
        odds_N = logit_N2[..., 0].clamp(max=20.0).exp()
        if self.config.negatives == "below_quantile":
            odds_N = odds_N * (-logit_N2[..., 1]).sigmoid()
        out: Tensor = (self.scale * odds_N).minimum(self.longest_s)
        return out
