"""TPM: a tree of questions, each halving the watch times that are left."""

# Shape suffixes: N exposures (any leading dims where a method says `...`), D state, L leaves, H levels,
# L - 1 inner nodes in heap order: the root is 0, the children of c are 2c + 1 (lower) and 2c + 2 (upper).

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from training.config import Config
from training.data import Interactions
from training.watch_time._base import DistributionModule, Prediction
from training.watch_time._network import one_hidden_layer
from training.watch_time._parts import Parts


def _power_of_two(leaves: int) -> int:
    if leaves & (leaves - 1):
        raise ValueError(f"`leaves` must be a power of two, got {leaves}.")
    return leaves


class TPMConfig(Config):
    """Hyperparameters of `TPM`."""

    hidden: NonNegativeInt = 64
    """Width of the one hidden layer; 0 for a linear head."""

    leaves: Annotated[int, Field(ge=2), AfterValidator(_power_of_two)] = 32
    """L, parts of the watch time at equal shares of the training rows."""

    classification: NonNegativeFloat = 1.0
    """λ_cls, weight of the questions."""

    mse: NonNegativeFloat = 0.01
    """λ_mse, weight of the squared error in units of the mean watch time. The ports' weight of 1 is on
    labels divided by the longest watch, where the squared error is a thousand times smaller."""

    variance: NonNegativeFloat = 1e-4
    """λ_var, weight of the deviation √Var in units of the mean watch time."""

    point: Literal["mean", "median"] = "mean"
    """What `seconds` answers: the mean over leaves (published), or the median of the distribution."""


class TPM(DistributionModule):
    """The watch time's leaf in a full binary tree, found by one answer a level.

        p_c = σ(f_c(x)) = P(upper half | node c is reached)        π_ℓ = Π_{c above ℓ} p_c or 1 - p_c
        ŵ = Σ_ℓ π_ℓ mid_ℓ        Var = Σ_ℓ π_ℓ (mid_ℓ - ŵ)²
        loss = λ_cls / (L - 1) · mean_n Σ_{c above ℓ(n)} BCE(p_c, side)
               + λ_mse · mean (ŵ - w)² + λ_var · mean √Var

    Leaves are equal shares of the training rows; the last one ends where its midpoint is the mean of its
    rows, see `Parts`. π sums to 1 by construction and is the distribution that is served, with √Var, the
    `uncertainty`. Squared error and deviation are in units of the mean watch time of train.

    Source: Lin et al., "Tree based Progressive Regression Model for Watch-Time Prediction in Short-video
    Recommendation", KDD 2023; 32 leaves as in later ports. Deviation: the released code overwrites the
    midpoints before it computes the variance, which is therefore 0; here it is the paper's.

    Args:
        state_dim: D.
        config: hyperparameters.
    """

    scale: Tensor

    def __init__(self, state_dim: PositiveInt, config: TPMConfig | None = None) -> None:
        super().__init__()
        self.config = config or TPMConfig()
        self.levels = self.config.leaves.bit_length() - 1
        self.net = one_hidden_layer(state_dim, self.config.hidden, self.config.leaves - 1)
        self.parts = Parts(self.config.leaves)
        self.register_buffer("scale", torch.tensor(torch.nan))

    def fit_tables(self, train: Interactions, *, seed: int) -> Self:
        if not len(train):
            raise ValueError("`train` has no rows to fit TPM's leaves on.")
        leaves = self.config.leaves
        self.parts.fit(train.watch_time_s, np.arange(1, leaves) / leaves)
        self.scale.fill_(max(float(train.watch_time_s.mean()), 1e-3))
        return self

    def path(self, watch_time_N: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, H]` nodes from the root to each row's leaf, and `[N, H]` its side of each, 1 for the upper."""
        leaf_N1 = self.parts.part(watch_time_N)[:, None]
        level_H = torch.arange(self.levels, device=leaf_N1.device)
        node_NH = 2**level_H - 1 + (leaf_N1 >> (self.levels - level_H))
        return node_NH, (leaf_N1 >> (self.levels - 1 - level_H)) & 1

    def loss(self, state_ND: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        if not self.parts.fitted:
            raise ValueError("TPM has no leaves yet, call `fit_tables` first.")
        c = self.config
        logit_NC = self.net(state_ND)
        node_NH, side_NH = self.path(watch_time_N)
        wrong_NH = binary_cross_entropy_with_logits(
            logit_NC.gather(1, node_NH), side_NH.to(logit_NC.dtype), reduction="none"
        )
        weight_NL = leaf_weights(logit_NC.sigmoid())
        mean_N, deviation_N = self._moments(weight_NL)
        error_N = (mean_N - watch_time_N) / self.scale
        return (
            c.classification * wrong_NH.sum(1).mean() / (c.leaves - 1)
            + c.mse * error_N.square().mean()
            + c.variance * (deviation_N / self.scale).mean()
        )

    def _moments(self, weight_NL: Tensor) -> tuple[Tensor, Tensor]:
        """`[...]` mean and `[...]` deviation in seconds."""
        midpoint_L = self.parts.midpoint_s
        mean_N = (weight_NL @ midpoint_L[:, None]).squeeze(-1)
        away_NL = midpoint_L - mean_N[..., None]
        # Axis by its place from the front: onnxruntime 1.31 reduces no rows wrongly along -1.
        variance_N = (weight_NL * away_NL.square()).sum(weight_NL.dim() - 1)
        return mean_N, variance_N.clamp(min=1e-12).sqrt()  # √ has no gradient at 0

    def uncertainty(self, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        """`[...]` √Var in seconds: how far from the prediction the watch time is expected to lie."""
        return self._moments(leaf_weights(self.net(state_ND).sigmoid()))[1]

    def predict(self, state_ND: Tensor, duration_N: Tensor) -> Prediction:
        weight_NL = leaf_weights(self.net(state_ND).sigmoid())
        mean_N = self._moments(weight_NL)[0] if self.config.point == "mean" else None
        return self.parts.predict(weight_NL, duration_N, mean_N)

    def crps_s(self, weight_NK: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        return self.parts.crps_s(weight_NK, watch_time_N)


def leaf_weights(upper_C: Tensor) -> Tensor:
    """`[..., L - 1]` probabilities of the upper side, in heap order -> `[..., L]` π, level by level."""
    weight = torch.ones_like(upper_C[..., :1])
    nodes = 1
    while nodes <= upper_C.shape[-1]:
        upper = upper_C[..., nodes - 1 : 2 * nodes - 1]
        weight = torch.stack([weight * (1 - upper), weight * upper], -1).flatten(-2)
        nodes *= 2
    return weight
