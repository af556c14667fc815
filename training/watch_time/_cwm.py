"""CWM: how long a video would have been watched if it had no end."""

# Shape suffixes: N exposures, D state.

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from training.config import Config
from training.data import Interactions
from training.watch_time._network import one_hidden_layer


class CWMConfig(Config):
    """Hyperparameters of `CWM`."""

    hidden: NonNegativeInt = 64
    """Width of the one hidden layer; 0 for a linear head."""

    cost: PositiveFloat = 40.0
    """c, what a second costs the user: at interest 1/2 a video is watched c / ln 2 - 1 s."""

    sigma: PositiveFloat = 2.0
    """σ, deviation of the interest's logit around what the state says."""

    loss: Literal["mse", "l1"] = "mse"
    """Of rows that ended early: the Gaussian's as published, or the Laplacian's, (|s - ζ(w)|) / σ, whose
    optimum is a median."""

    separate_means: bool = True
    """Average the rows that ended early and those watched to the end each by itself (the authors' code),
    which gives the rarer kind more weight; False is the plain likelihood, one mean of all rows."""


class CWM(nn.Module):
    """Regression on the interest behind the watch time, where a complete play is a lower bound.

        r = σ(s(x)) = exp( -c / (w_c + 1) )        ζ(w) = logit( exp( -c / (w + 1) ) )
        L = mean_{w < d} (s - ζ(w))² / (2σ²) + mean_{w ≥ d} -log σ( (s - ζ(d)) / σ )
        ŵ = clip( c / (-log σ(s)) - 1, 0, d )

    w_c is the counterfactual watch time: what is seen is min(w_c, d), since a video ends. A user who
    reached the end is censored there and says only that the interest is at least ζ(d). The duration is no
    stratum: it cuts the prediction, and `interest` ranks without it. Replays count as complete, so no
    prediction is above the duration.

    s(x) = shift + spread · f(x), mean and deviation of ζ(min(w, d)) on train: the same optimum for any
    network with a bias, but f starts where ζ lies and learns at the rate of the other heads.

    Source: Zhao et al., "Counteracting Duration Bias in Video Recommendation via Counterfactual Watch
    Time", KDD 2024, whose code has the logistic function for the Gaussian survival. Ours: shift and spread,
    the Laplacian as an option.

    Args:
        state_dim: D.
        config: hyperparameters.
    """

    shift: Tensor
    spread: Tensor

    def __init__(self, state_dim: PositiveInt, config: CWMConfig | None = None) -> None:
        super().__init__()
        self.config = config or CWMConfig()
        self.net = one_hidden_layer(state_dim, self.config.hidden)
        self.register_buffer("shift", torch.tensor(torch.nan))
        self.register_buffer("spread", torch.tensor(torch.nan))

    def fit_tables(self, train: Interactions, *, seed: int) -> Self:
        if not len(train):
            raise ValueError("`train` has no rows to fit CWM's scale on.")
        watch = torch.from_numpy(train.watch_time_s).double()
        seen = interest_logit(watch.minimum(torch.from_numpy(train.duration_s).double()), self.config.cost)
        self.shift.copy_(seen.mean())
        self.spread.copy_(seen.std(correction=0).clamp(min=1e-3))
        return self

    def interest_logit(self, state_ND: Tensor) -> Tensor:
        """`[..., D]` -> `[...]` s, what to rank by."""
        out: Tensor = self.shift + self.spread * self.net(state_ND).squeeze(-1)
        return out

    def loss(self, state_ND: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        if bool(self.shift.isnan()):
            raise ValueError("CWM has no scale yet, call `fit_tables` first.")
        c = self.config
        complete_N = watch_time_N >= duration_N
        away_N = (
            self.interest_logit(state_ND) - interest_logit(watch_time_N.minimum(duration_N), c.cost)
        ) / c.sigma
        error_N = away_N.abs() if c.loss == "l1" else away_N.square() / 2
        ended_early = error_N.masked_fill(complete_N, 0).sum()
        at_the_end = (-logsigmoid(away_N)).masked_fill(~complete_N, 0).sum()
        if not c.separate_means:
            return (ended_early + at_the_end) / len(away_N)
        complete = complete_N.sum()
        return ended_early / (len(away_N) - complete).clamp(min=1) + at_the_end / complete.clamp(min=1)

    def seconds(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        logit_N = self.interest_logit(state_ND)
        return counterfactual_s(logit_N, self.config.cost).clamp(min=0).minimum(duration_N)


def interest_logit(watch_time: Tensor, cost: float) -> Tensor:
    """ζ: `[...]` seconds -> `[...]` logit of the interest that is worth them."""
    price = cost / (watch_time + 1)
    return -price - (-torch.expm1(-price)).log()


def counterfactual_s(logit: Tensor, cost: float) -> Tensor:
    """ζ⁻¹: `[...]` logits -> `[...]` seconds, from -1 for no interest to infinity beyond all measure."""
    # ONNX has no log1p, and -log σ(s) without it loses its digits for large s.
    # log(1 + e) = 2 atanh(e / (2 + e)) does not.
    small = torch.exp(-logit.abs())
    price = (-logit).relu() + 2 * torch.atanh(small / (2 + small))
    return cost / price - 1
