"""The anchors of all groups as frozen tables, and the distribution of watch ratios that their weights are."""

# Shape suffixes: N exposures, G duration groups, K anchors of a group, S steps, C code, Q quantiles.

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.arrays import F32
from training.lda._anchors import Anchors, AnchorsConfig
from training.watch_time import mixture_quantiles, mixture_rank


class AnchorTables(nn.Module):
    """What the head reads of the anchors: their codes, and the part of the ratio axis each stands for.

    Args:
        groups: G.
        config: sizes of the anchors.
    """

    code: Tensor
    """`[G, K, C]` a_k at mean 0 and deviation 1 over everything, so that φ does not depend on the VQ-VAE's
    scale"""
    ratio: Tensor
    """`[G, K]` mean watch ratio of each anchor, ascending"""
    start: Tensor
    """`[G, 1]` where the first anchor's part of the ratio axis begins"""
    width: Tensor
    """`[G, K]` widths of the parts"""
    share: Tensor
    """`[G, K]` share of the training rows in each part"""
    rank: Tensor
    """`[G, K]` rank of each part's middle among the training rows"""

    def __init__(self, groups: int, config: AnchorsConfig) -> None:
        super().__init__()
        shape = (groups, config.anchors)
        self.register_buffer("code", torch.zeros(*shape, config.code_dim))
        self.register_buffer("ratio", torch.zeros(shape))
        self.register_buffer("start", torch.zeros(groups, 1))
        self.register_buffer("width", torch.zeros(shape))
        self.register_buffer("share", torch.zeros(shape))
        self.register_buffer("rank", torch.zeros(shape))

    def fit(self, anchors: Anchors, ratios: Sequence[F32]) -> Self:
        """Fill the tables from the anchors and, for each of the G groups, its training ratios."""
        code = anchors.code
        self.code.copy_((code - code.mean()) / code.std().clamp(min=1e-6))
        self.ratio.copy_(anchors.mean)
        edge_GK1 = anchor_edges(anchors.ratio)
        self.start.copy_(edge_GK1[:, :1])
        self.width.copy_(edge_GK1.diff())
        for g, values in enumerate(ratios):
            below = torch.from_numpy(np.searchsorted(np.sort(values), edge_GK1[g].numpy(), side="right"))
            below[0], below[-1] = 0, len(values)
            self.share[g] = below.diff() / len(values)
        self.rank.copy_(self.share.cumsum(-1) - self.share / 2)
        return self

    def ratio_rank(self, ratio_N: Tensor, group_N: Tensor) -> Tensor:
        """Return the `[N]` ranks of watch ratios among the training rows of their groups."""
        return mixture_rank(ratio_N, self.start[group_N], self.width[group_N], self.share[group_N])

    @property
    def middle(self) -> Tensor:
        """`[G, K]` watch ratios in the middle of each part: its mean where its weight is spread evenly."""
        return self.start + self.width.cumsum(-1) - self.width / 2

    def quantiles(self, weight_NK: Tensor, group_N: Tensor, levels: tuple[float, ...]) -> Tensor:
        """Return the `[..., Q]` quantiles of the watch ratio where each anchor has this weight."""
        start_N1, width_NK = (embedding(group_N, table) for table in (self.start, self.width))
        return mixture_quantiles(weight_NK, start_N1, width_NK, levels)


def anchor_edges(ratio_GKS: Tensor) -> Tensor:
    """Return where one anchor's part of the ratio axis ends and the next begins.

    Halfway between neighbouring anchor means; the outermost edges are the least ratio of the first
    anchor and the greatest of the last.

    Args:
        ratio_GKS: `[G, K, S]` ratios each anchor decodes to, anchors ascending by mean.

    Returns:
        `[G, K + 1]`, ascending, ≥ 0.
    """
    mean_GK = ratio_GKS.mean(-1)
    inner = (mean_GK[:, 1:] + mean_GK[:, :-1]) / 2
    low = torch.minimum(ratio_GKS[:, 0].amin(-1), mean_GK[:, 0])[:, None]
    high = torch.maximum(ratio_GKS[:, -1].amax(-1), mean_GK[:, -1])[:, None]
    return torch.cat([low.clamp(min=0), inner, high], -1)
