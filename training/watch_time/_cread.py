"""CREAD: classify against thresholds that balance two errors, then restore."""

# Shape suffixes: N exposures (any leading dims where a method says `...`), D state, M thresholds, K parts.

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

import numpy as np
import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from models.arrays import F32, F64
from training.config import Config
from training.data import Interactions
from training.watch_time._base import DistributionModule, Prediction
from training.watch_time._losses import regression_loss
from training.watch_time._network import one_hidden_layer
from training.watch_time._parts import Parts, weights_from_above

_BENDS: Final = np.linspace(0, 8, 33)
"""α that are tried."""


class CREADConfig(Config):
    """Hyperparameters of `CREAD`."""

    hidden: NonNegativeInt = 64
    """Width of the one hidden layer; 0 for a linear head."""

    thresholds: Annotated[int, Field(ge=2)] = 50
    """M."""

    bend: NonNegativeFloat | None = None
    """α: 0 for equal shares of the rows; the larger, the more thresholds lie at long watch times. None
    takes the one with the least `error_bound` on train."""

    alike: PositiveInt = 100
    """Training rows that one prediction is thought to rest on, in that bound."""

    restoration: NonNegativeFloat = 1.0
    """Weight of the Huber loss on the restored value, in units of the mean watch time."""

    delta: PositiveFloat = 1.0
    """Where Huber turns linear, in those units."""

    order: NonNegativeFloat = 2e-5
    """Weight of the penalty on probabilities that rise from one threshold to the next."""

    point: Literal["restored", "median"] = "restored"
    """What `seconds` answers: the sum over thresholds (published), or the median of the distribution."""


class CREAD(DistributionModule):
    """One classifier a threshold, the thresholds spread by the errors that they make.

        φ_m = P(w > τ_m) = σ(f_m(x) + prior_m)        ŵ = Σ_m (τ_m - τ_{m-1}) φ_m + tail · φ_M
        L = mean BCE(φ_m, 1[w > τ_m]) + λ_r · Huber(ŵ, w) + λ_o · mean_n Σ_m max(φ_{m+1} - φ_m, 0)
        τ_m = F̂⁻¹( (1 - e^{-αz}) / (1 - e^{-α}) )        z = m / (M + 1)

    Thresholds at equal shares of the rows (α = 0) leave long watch times in wide parts, restored coarsely;
    thresholds at equal distances leave some with hardly a row to learn from. α lies between and is read
    off train (`error_bound`). prior_m is the logit of the share of train above τ_m, so f = 0 is the
    share of the training rows.

    Nothing forces the φ_m to fall. `seconds` uses them as they are, as published; the distribution uses
    them sorted, which is never further from any falling curve (Chernozhukov et al. 2010).

    Source: Sun et al., "CREAD: A Classification-Restoration Framework with Error Adaptive Discretization
    for Watch Time Prediction in Video Recommendation", AAAI 2024; 50 thresholds and the weights as in a
    later port. Ours: the bound's form, the prior, the tail (see `Parts.restore`), z over M + 1 so that the
    last threshold is not the longest watch.

    Args:
        state_dim: D.
        config: hyperparameters.
    """

    scale: Tensor
    prior: Tensor
    bend: Tensor

    def __init__(self, state_dim: PositiveInt, config: CREADConfig | None = None) -> None:
        super().__init__()
        self.config = config or CREADConfig()
        thresholds = self.config.thresholds
        self.net = one_hidden_layer(state_dim, self.config.hidden, thresholds)
        self.parts = Parts(thresholds + 1)
        self.register_buffer("prior", torch.zeros(thresholds))
        self.register_buffer("scale", torch.tensor(torch.nan))
        self.register_buffer("bend", torch.tensor(torch.nan))

    def fit_tables(self, train: Interactions, *, seed: int) -> Self:
        if not len(train):
            raise ValueError("`train` has no rows to fit CREAD's thresholds on.")
        c, watch = self.config, train.watch_time_s
        self.bend.fill_(
            c.bend
            if c.bend is not None
            else min(_BENDS, key=lambda a: error_bound(watch, shares(c.thresholds, a), c.alike))
        )
        share_M = shares(c.thresholds, float(self.bend))
        self.parts.fit(watch, share_M)
        self.prior.copy_(-torch.from_numpy(share_M).logit())
        self.scale.fill_(max(float(watch.mean()), 1e-3))
        return self

    def logits(self, state_ND: Tensor) -> Tensor:
        """`[..., D]` -> `[..., M]`."""
        out: Tensor = self.net(state_ND) + self.prior
        return out

    def loss(self, state_ND: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        if not self.parts.fitted:
            raise ValueError("CREAD has no thresholds yet, call `fit_tables` first.")
        c = self.config
        logit_NM = self.logits(state_ND)
        above_NM = logit_NM.sigmoid()
        classified = binary_cross_entropy_with_logits(logit_NM, self.parts.is_above(watch_time_N))
        restored_N = self.parts.restore(above_NM) / self.scale
        huber = regression_loss("huber", restored_N, watch_time_N / self.scale, delta=c.delta)
        return classified + c.restoration * huber + c.order * out_of_order(above_NM)

    def predict(self, state_ND: Tensor, duration_N: Tensor) -> Prediction:
        above_NM = self.logits(state_ND).sigmoid()
        falling_NM = above_NM.sort(-1, descending=True).values
        restored_N = self.parts.restore(above_NM) if self.config.point == "restored" else None
        return self.parts.predict(weights_from_above(falling_NM), duration_N, restored_N)

    def crps_s(self, weight_NK: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        return self.parts.crps_s(weight_NK, watch_time_N)


def out_of_order(above_NM: Tensor) -> Tensor:
    """Return the mean over rows of Σ_m max(φ_{m+1} - φ_m, 0): 0 for probabilities that fall."""
    return (above_NM[:, 1:] - above_NM[:, :-1]).relu().sum(1).mean()


def shares(thresholds: int, bend: float) -> F64:
    """Return the `[M]` shares of train below each threshold, (1 - e^{-αz}) / (1 - e^{-α}); z where α = 0."""
    z = np.arange(1, thresholds + 1) / (thresholds + 1)
    out: F64 = np.expm1(-bend * z) / np.expm1(-bend) if bend else z
    return out


def error_bound(watch_time_s: F32, share_M: F64, alike: int) -> float:
    """Return how many seconds thresholds at these shares may cost a prediction.

        Σ_k p_k Δ_k + Σ_k √( p_k (1 - p_k) / alike ) τ_k

    The first sum is the cost of restoring: a row in part k may be off by its width Δ_k. The second is the
    cost of learning, by the triangle inequality: the share p_k of a part, estimated on so many rows,
    errs by its standard error, worth the part's upper edge τ_k. Equal shares make the second small and the
    first large; narrow parts at long watch times the other way round.
    """
    edge_K1 = np.concatenate([[0.0], np.quantile(watch_time_s, [*share_M, 1.0])])
    p_K = np.diff(np.concatenate([[0.0], share_M, [1.0]]))
    restoring = p_K @ np.diff(edge_K1)
    learning = np.sqrt(p_K * (1 - p_K) / alike) @ edge_K1[1:]
    return float(restoring + learning)
