"""LDA's watch-time head."""

# Shape suffixes: N exposures, D state, R rows, G duration groups, K anchors of a group,
# A = G·K anchors of all groups, M cells of a group, C code, H the space of φ.

from __future__ import annotations

from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import embedding, softplus

from models.arrays import F32
from training.config import Config
from training.data import Interactions
from training.lda._anchors import AnchorsConfig, fit_anchors, random_anchors
from training.lda._tables import AnchorTables
from training.lda._transport_plan import transport_plan
from training.strata import DurationGroups
from training.watch_time import (
    QUANTILES,
    DistributionModule,
    Prediction,
    RankError,
    RankLoss,
    Regression,
    regression_loss,
    state_edges,
    state_loss,
    state_probabilities,
)


class LDAConfig(Config):
    """Hyperparameters of `LDA`. Defaults marked (poster) are printed there; the others are ours."""

    groups: PositiveInt = 10
    """D duration groups of equal size."""

    anchors: AnchorsConfig = AnchorsConfig()
    """Stage 1."""

    random_anchors: bool = False
    """Ablation: as many anchors without labels, random vectors for random ratios."""

    dim: PositiveInt = 64
    """Width of the space that φ maps states and anchors into."""

    weights: Literal["cosine", "raw_dot"] = "cosine"
    """β from cos(h, p) / `temperature`, or from h·p as printed (poster)."""

    temperature: PositiveFloat = 0.1
    """τ_β."""

    prior: Literal["even", "share"] = "even"
    """What β is where a state says nothing: the same for every anchor (poster), or the shares of the training
    rows in the anchors' parts. Parts next to each other may differ tenfold in rows while their codes hardly
    differ."""

    epsilon: PositiveFloat = 0.05
    """Entropy of the transport plan."""

    kappa: NonNegativeFloat = 0.1
    """Price of giving an anchor more or less than its even share. Large is balanced transport, which
    misplaces rows when modes have unequal sizes."""

    iterations: PositiveInt = 50
    """Most Sinkhorn rounds a step."""

    label_cost: NonNegativeFloat = 4.0
    """Weight of the distance between the label's rank and the anchor's in the transport cost; 0 is the
    poster's cost, which does not depend on the label."""

    alignment: NonNegativeFloat = 0.1
    """λ_a, weight of the cross-entropy to the pseudo-labels."""

    compactness: NonNegativeFloat = 0.0
    """λ_c, weight of 1 - cos(h, Σ β p). A loss of LDA's sibling ProWTP; not on the poster."""

    target: Literal["ratio", "time"] = "ratio"
    """What g's output stands for: a share of the duration, or of the mean watch time."""

    regressor: Literal["anchors", "state"] = "anchors"
    """What g reads: the state as a mean of anchors (poster), or the state itself. A mean of 16 anchors keeps
    less of the order than the state that it is made from."""

    point: Literal["regressor", "median", "both"] = "regressor"
    """What `seconds` returns: g (poster), the median of the distribution over anchors, or halfway between
    them. `loss` and `rank` fit the median where it is all that is returned, and g otherwise."""

    loss: Regression = "l1"
    """On watch time in units of its mean."""

    delta: PositiveFloat = 1.0
    """Where Huber turns linear, in those units."""

    rank: NonNegativeFloat = 8.0
    """λ_r, weight of the error of the prediction's rank, see `RankLoss`. Not on the poster."""

    rank_error: RankError = "squared"
    """Which error of the rank; the cross-entropy is about twice as large near the middle."""

    crps: NonNegativeFloat = 0.0
    """λ_s, weight of the distribution's ranked probability score in units of the mean watch time, see
    `mixture_crps`. Not on the poster."""

    states: NonNegativeFloat = 0.0
    """λ_z, weight of the cross-entropy of the watch state, which a score in seconds hardly sees: 0.02 of a
    duration round its end is a complete view. Not on the poster."""


class Attended(NamedTuple):
    """N exposures beside the K anchors of their groups."""

    group: Tensor
    """`[N]`"""
    cosine: Tensor
    """`[N, K]` cos(h, p_k)."""
    log_weight: Tensor
    """`[N, K]` log β."""
    state: Tensor
    """`[N, H]` h, of length 1 unless `raw_dot`."""
    pooled: Tensor
    """`[N, H]` Σ_k β_k p_k."""


class LDA(DistributionModule):
    """Watch time from the anchors a state is close to; its equations are in the package's docstring.

    Inference needs neither the transport plan nor the VQ-VAE: p_k is kept as a buffer, refreshed whenever the
    head is put in eval mode (`freeze_anchors`), and a prediction costs O(K · H).

    Source: Xu et al., "Leveraging Label Distributions as Anchors to Enhance Video Recommendation"; no
    public code. Ours, with reasons:
        `label_cost`: the poster's transport depends on h and p only, so nothing ties an anchor's weight to
        the ratios it stands for, and β is no distribution of the watch time. The rank distance between label
        and anchor in the cost does tie it; β then has quantiles worth serving.
        L1 by default: evaluated by MAE, which the median minimises; the rank beside it, for the order.
        cosine with a temperature for β, as in the cost (`raw_dot` is the printed form).

    Args:
        state_dim: D.
        config: hyperparameters.
    """

    anchor_key: Tensor
    """`[G, K, H]` p_k, frozen"""
    scale: Tensor
    """Mean watch time of the training rows in seconds; NaN before `fit_tables`"""

    def __init__(self, state_dim: int, config: LDAConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or LDAConfig()
        self.groups = DurationGroups(c.groups)
        self.from_state = nn.Linear(state_dim, c.dim)
        self.from_anchor = nn.Linear(c.anchors.code_dim, c.dim)
        self.phi = nn.Sequential(nn.GELU(), nn.Linear(c.dim, c.dim), nn.GELU(), nn.Linear(c.dim, c.dim))
        self.g_out = nn.Linear(c.dim, 1)
        width = state_dim if c.regressor == "state" else c.dim
        self.g = nn.Sequential(nn.Linear(width, c.dim), nn.GELU(), self.g_out)
        self.anchors = AnchorTables(c.groups, c.anchors)
        self.register_buffer("anchor_key", torch.zeros(c.groups, c.anchors.anchors, c.dim))
        self.register_buffer("scale", torch.tensor(torch.nan))
        self.rank_loss = RankLoss(c.rank_error)

    # --- stage 1: everything that is frozen

    def fit_tables(self, train: Interactions, *, seed: int) -> Self:
        if not len(train):
            raise ValueError("`train` has no rows to fit LDA's groups and anchors on.")
        c = self.config
        ratios = self._fit_groups(train)
        fit = random_anchors if c.random_anchors else fit_anchors
        self.anchors.fit(fit(ratios, c.anchors, seed=seed), ratios)
        with torch.no_grad():  # start at the typical prediction
            unit = 1.0 if c.target == "time" else float(np.median(train.watch_time_s / train.duration_s))
            self.g_out.bias.fill_(float(np.log(np.expm1(max(unit, 1e-3)))))
        self.freeze_anchors()
        return self

    def refit_tables(self, train: Interactions) -> Self:
        """Fit the tables to other rows around the same anchors, for a head whose weights are kept."""
        self.anchors.refit(self._fit_groups(train))
        return self

    def _fit_groups(self, train: Interactions) -> list[F32]:
        """Fit everything but the anchors, and return each group's watch ratios."""
        ratio: F32 = train.watch_time_s / train.duration_s
        group = self.groups.fit(train.duration_s)(torch.from_numpy(train.duration_s)).numpy()
        self.scale.fill_(max(float(train.watch_time_s.mean()), 1e-3))
        self.rank_loss.fit(train.watch_time_s)
        # A group that merged edges left empty is never looked up; it gets the anchors of all rows.
        return [ratio[group == g] if (group == g).any() else ratio for g in range(self.config.groups)]

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if not mode:
            self.freeze_anchors()
        return self

    @torch.no_grad()
    def freeze_anchors(self) -> None:
        """Compute p_k once, for inference."""
        self.anchor_key.copy_(self._keys())

    # --- stage 2: the loss

    def loss(self, state_ND: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        if bool(self.scale.isnan()):
            raise ValueError("LDA has no anchors yet, call `fit_tables` first.")
        c = self.config
        attended = self.attend(state_ND, duration_N)
        label_NK = self.pseudo_labels(attended, duration_N, watch_time_N) if c.alignment else None
        point_N = self.point_s(attended, state_ND, duration_N)
        loss = self.loss_of(attended.log_weight, point_N, label_NK, duration_N, watch_time_N)
        if c.compactness:
            away_N = 1 - torch.cosine_similarity(attended.state, attended.pooled, dim=-1)
            loss = loss + c.compactness * away_N.mean()
        return loss

    def loss_of(
        self,
        log_weight_NK: Tensor,
        point_N: Tensor,
        label_NK: Tensor | None,
        duration_N: Tensor,
        watch_time_N: Tensor,
    ) -> Tensor:
        """Return the loss, compactness aside, of what was predicted.

        Args:
            log_weight_NK: log β.
            point_N: seconds.
            label_NK: `pseudo_labels`; not read without alignment.
            duration_N, watch_time_N: seconds.
        """
        c = self.config
        loss = regression_loss(c.loss, point_N / self.scale, watch_time_N / self.scale, delta=c.delta)
        if c.rank:
            order: Tensor = self.rank_loss(point_N, watch_time_N)
            loss = loss + c.rank * order
        if label_NK is not None:
            loss = loss - c.alignment * (label_NK * log_weight_NK).sum(-1).mean()
        ratio_N, group_N = watch_time_N / duration_N, self.groups(duration_N)
        cell_NM = self.anchors.cells(log_weight_NK.exp(), group_N)
        if c.crps:
            score_N: Tensor = self.anchors.crps(ratio_N, cell_NM, group_N)
            loss = loss + c.crps * (score_N * duration_N).mean() / self.scale
        if c.states:
            rank_N3 = self.anchors.ranks(state_edges(duration_N), cell_NM, group_N)
            loss = loss + c.states * state_loss(state_probabilities(rank_N3), ratio_N, duration_N)
        return loss

    def attend(self, state_ND: Tensor, duration_N: Tensor) -> Attended:
        """Compare each row with the anchors of its group, `[..., D]` and `[...]`."""
        key_GKH = self._keys() if self.training else self.anchor_key
        group_N = self.groups(duration_N)
        key_NKH = embedding(group_N, key_GKH.flatten(1)).reshape(*group_N.shape, *key_GKH.shape[1:])
        state_NH = self._unit(self.phi(self.from_state(state_ND)))
        dot_NK = (key_NKH @ state_NH[..., None]).squeeze(-1)
        if self.config.weights == "raw_dot":
            norm_NK = key_NKH.norm(dim=key_NKH.dim() - 1) * state_NH.norm(
                dim=state_NH.dim() - 1, keepdim=True
            )
            cosine_NK, logit_NK = dot_NK / norm_NK.clamp(min=1e-12), dot_NK
        else:
            cosine_NK, logit_NK = dot_NK, dot_NK / self.config.temperature
        if self.config.prior == "share":
            logit_NK = logit_NK + embedding(group_N, self.anchors.log_share)
        log_weight_NK = logit_NK.log_softmax(-1)
        pooled_NH = (log_weight_NK.exp()[..., None, :] @ key_NKH).squeeze(-2)
        return Attended(group_N, cosine_NK, log_weight_NK, state_NH, pooled_NH)

    def pseudo_labels(self, attended: Attended, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        """Return the `[N, K]` transport plan of the rows to their groups' anchors, without a gradient."""
        c = self.config
        rank_N = self.anchors.training_ranks(watch_time_N / duration_N, attended.group)
        away_NK = (rank_N[:, None] - self.anchors.rank[attended.group]).abs()
        cost_NK = 1 - attended.cosine + c.label_cost * away_NK
        return transport_plan(
            cost_NK, attended.group, c.groups, epsilon=c.epsilon, kappa=c.kappa, iterations=c.iterations
        )

    def point_s(self, attended: Attended, state_ND: Tensor, duration_N: Tensor) -> Tensor:
        """Return the point prediction of each row, `[N]` seconds."""
        if self.config.point == "median":
            cell_NM = self.anchors.cells(attended.log_weight.exp(), attended.group)
            return duration_N * self.anchors.quantiles(cell_NM, attended.group, (0.5,)).squeeze(-1)
        read = state_ND if self.config.regressor == "state" else attended.pooled
        return self._regress(self.g[0](read), duration_N)

    # --- the served path

    def predict(self, state_ND: Tensor, duration_N: Tensor) -> Prediction:
        """Predict with β over the anchors of all groups, 0 outside of the row's own.

        Two matrix products that all rows share are cheaper than K vectors fetched for each row. And since β
        sums to 1, g's first layer is a mean of its values at the anchors, which is computed once.
        """
        state_RD, duration_R = state_ND.flatten(0, -2), duration_N.flatten()
        key_GKH = self._keys() if self.training else self.anchor_key
        key_AH = key_GKH.flatten(0, 1)
        group_R = self.groups(duration_R)
        state_RH = self._unit(self.phi(self.from_state(state_RD)))
        prior_GK = (
            self.anchors.log_share if self.config.prior == "share" else key_GKH.new_zeros(key_GKH.shape[:2])
        )
        prior_RA = embedding(group_R, _in_its_group(prior_GK))
        sharp_AH = key_AH if self.config.weights == "raw_dot" else key_AH / self.config.temperature
        weight_RA = torch.addmm(prior_RA, state_RH, sharp_AH.T).softmax(-1)
        # Added up over groups by a matrix of ones, several times as fast as a sum along the middle axis.
        weight_RK = weight_RA @ torch.eye(key_GKH.shape[1], dtype=weight_RA.dtype).repeat(key_GKH.shape[0], 1)
        cell_RM = weight_RA @ self.anchors.spread.flatten(0, 1)
        quantiles_RQ = self.anchors.quantiles(cell_RM, group_R, QUANTILES) * duration_R[:, None]
        points = []
        if self.config.point != "median":
            from_state = self.config.regressor == "state"
            hidden_RH = self.g[0](state_RD) if from_state else weight_RA @ self.g[0](key_AH)
            points.append(self._regress(hidden_RH, duration_R))
        if self.config.point != "regressor":
            points.append(quantiles_RQ[:, QUANTILES.index(0.5)])
        # What is the same share of an anchor's weight in every row is a product of matrices, too.
        share_A3 = torch.cat([self.anchors.mean[..., None], self.anchors.below_cuts], -1).flatten(0, 1)
        mean_R, start_R, end_R = (weight_RA @ share_A3).unbind(-1)
        skip_R = self.anchors.ranks(state_edges(duration_R)[:, :1], cell_RM, group_R).squeeze(1)
        rank_R3 = torch.stack([skip_R, torch.maximum(start_R, skip_R), end_R], -1)
        rows = Prediction(
            seconds=sum(points[1:], points[0]) / len(points),
            weights=weight_RK,
            ratio=embedding(group_R, self.anchors.mean),
            quantiles_s=quantiles_RQ,
            mean_s=mean_R * duration_R,
            states=state_probabilities(rank_R3),
        )
        if duration_N.dim() == 1:
            return rows
        return Prediction(*(part.reshape(*duration_N.shape, *part.shape[1:]) for part in rows))

    def crps_s(self, weight_NK: Tensor, duration_N: Tensor, watch_time_N: Tensor) -> Tensor:
        group_N = self.groups(duration_N)
        cell_NM = self.anchors.cells(weight_NK, group_N)
        return self.anchors.crps(watch_time_N / duration_N, cell_NM, group_N) * duration_N

    def _keys(self) -> Tensor:
        """p_k of every anchor, `[G, K, H]`."""
        return self._unit(self.phi(self.from_anchor(self.anchors.code)))

    def _unit(self, x: Tensor) -> Tensor:
        # dim() - 1, not -1: onnxruntime 1.31 reduces no rows wrongly along a negative axis.
        if self.config.weights == "raw_dot":
            return x
        length: Tensor = x.norm(dim=x.dim() - 1, keepdim=True)
        return x / length.clamp(min=1e-12)

    def _regress(self, hidden_NH: Tensor, duration_N: Tensor) -> Tensor:
        """Seconds from the output of g's first layer."""
        share_N = softplus(self.g[1:](hidden_NH)).squeeze(-1)
        return share_N * (duration_N if self.config.target == "ratio" else self.scale)


def _in_its_group(prior_GK: Tensor) -> Tensor:
    """What is added to the logits of each group, `[G, G·K]`: the prior of its own anchors, -∞ for the
    others'."""
    groups, anchors = prior_GK.shape
    own = torch.eye(groups, dtype=torch.bool).repeat_interleave(anchors, dim=1)
    return prior_GK.repeat(1, groups).masked_fill(~own, -torch.inf)
