"""The anchors of all groups as frozen tables, and the distribution of watch ratios that their weights are."""

# Shape suffixes: N exposures, G duration groups, K anchors of a group, M cells of a group, S steps, C code,
# Q quantiles.

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.arrays import F32, F64
from models.metrics import COMPLETE_RATIO
from training.lda._anchors import Anchors, AnchorsConfig
from training.watch_time import mixture_crps, mixture_quantiles, mixture_rank

_CUTS: Final = (1 - COMPLETE_RATIO, 1 + COMPLETE_RATIO)
"""Watch ratios at which a complete view begins and ends. Within one part there may be all of the ends."""


class AnchorTables(nn.Module):
    """What the head reads of the anchors: their codes, and the part of the ratio axis each stands for.

    Weights of a group's anchors are a law of the watch ratio: an anchor's weight lies in the cells of its
    part as the training rows do, and evenly within a cell. Quantiles, mean and states are read off it.

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
    """`[G, M]` widths of the cells: the parts, cut where a complete view begins and ends"""
    spread: Tensor
    """`[G, K, M]` share of each anchor's weight in each cell, as the training rows of its part lie there"""
    share: Tensor
    """`[G, K]` share of the training rows in each part"""
    rank: Tensor
    """`[G, K]` rank of each part's middle among the training rows"""

    def __init__(self, groups: int, config: AnchorsConfig) -> None:
        super().__init__()
        shape = (groups, config.anchors)
        cells = config.anchors + len(_CUTS)
        self.register_buffer("code", torch.zeros(*shape, config.code_dim))
        self.register_buffer("ratio", torch.zeros(shape))
        self.register_buffer("start", torch.zeros(groups, 1))
        self.register_buffer("width", torch.zeros(groups, cells))
        self.register_buffer("spread", torch.zeros(*shape, cells))
        self.register_buffer("share", torch.zeros(shape))
        self.register_buffer("rank", torch.zeros(shape))

    def fit(self, anchors: Anchors, ratios: Sequence[F32]) -> Self:
        """Fill the tables from the anchors and, for each of the G groups, its training ratios."""
        code = anchors.code
        self.code.copy_((code - code.mean()) / code.std().clamp(min=1e-6))
        self.ratio.copy_(anchors.mean)
        for g, (edge_K1, ratio) in enumerate(zip(anchor_edges(anchors.ratio), ratios, strict=True)):
            self._fit_group(g, edge_K1.double().numpy(), np.sort(ratio).astype(np.float64))
        self.rank.copy_(self.share.cumsum(-1) - self.share / 2)
        return self

    def refit(self, ratios: Sequence[F32]) -> Self:
        """Fill the tables from other training ratios of each group, for the same anchors and their parts."""
        edge_GM1 = torch.cat([self.start, self.start + self.width.cumsum(-1)], dim=1).double().numpy()
        for g, (edge_M1, ratio) in enumerate(zip(edge_GM1, ratios, strict=True)):
            cuts = np.clip(_CUTS, edge_M1[0], edge_M1[-1])
            edge_K1 = np.delete(edge_M1, [int(np.abs(edge_M1 - cut).argmin()) for cut in cuts])
            self._fit_group(g, edge_K1, np.sort(ratio).astype(np.float64))
        self.rank.copy_(self.share.cumsum(-1) - self.share / 2)
        return self

    def _fit_group(self, g: int, edge_K1: F64, ratio: F64) -> None:
        edge_M1 = np.sort([*edge_K1, *np.clip(_CUTS, edge_K1[0], edge_K1[-1])])
        beyond = ratio[ratio > edge_M1[-2]]
        if len(beyond):
            # As of heads that classify (`Parts`): the middle of the last cell is the mean of its rows.
            edge_M1[-1] = 2 * beyond.mean() - edge_M1[-2]
        below = np.searchsorted(ratio, edge_M1, side="right")
        below[0], below[-1] = 0, len(ratio)
        count_M, width_M = np.diff(below), np.diff(edge_M1)
        anchor_M = np.searchsorted(edge_K1[1:-1], edge_M1[:-1], side="right")
        member_KM = np.arange(len(edge_K1) - 1)[:, None] == anchor_M
        # A row's worth of evenness, for parts without rows.
        row_KM = member_KM * (count_M + width_M / np.maximum(member_KM @ width_M, 1e-9)[:, None])
        # Anchors that coincide have parts of no width: all of it in the cell that begins there.
        narrow_K = np.flatnonzero(row_KM.sum(1) == 0)
        row_KM[narrow_K, np.searchsorted(edge_M1[1:-1], edge_K1[narrow_K], side="right")] = 1
        self.start[g] = edge_M1[0]
        self.width[g] = torch.from_numpy(width_M)
        self.spread[g] = torch.from_numpy(row_KM / row_KM.sum(1, keepdims=True))
        self.share[g] = torch.from_numpy(member_KM @ count_M / len(ratio))

    @property
    def mean(self) -> Tensor:
        """`[G, K]` mean watch ratio of each anchor's part: the middles of its cells, by their shares."""
        middle_GM = self.start + self.width.cumsum(-1) - self.width / 2
        return (self.spread @ middle_GM[..., None]).squeeze(-1)

    @property
    def below_cuts(self) -> Tensor:
        """`[G, K, 2]` share of each part below the ratios at which a complete view begins and ends."""
        middle_GM = self.start + self.width.cumsum(-1) - self.width / 2
        below_GM2 = middle_GM[..., None] < middle_GM.new_tensor(_CUTS)
        return self.spread @ below_GM2.to(middle_GM.dtype)

    @property
    def log_share(self) -> Tensor:
        """`[G, K]` logarithm of the shares, of at least one row in ten thousand."""
        return self.share.clamp(min=1e-4).log()

    def cells(self, weight_NK: Tensor, group_N: Tensor) -> Tensor:
        """Return the `[N, M]` weights of the cells where each anchor has this weight."""
        return (weight_NK[:, None, :] @ self.spread[group_N]).squeeze(1)

    def training_ranks(self, ratio_N: Tensor, group_N: Tensor) -> Tensor:
        """Return the `[N]` ranks of watch ratios among the training rows of their groups."""
        cell_NM = self.cells(self.share[group_N], group_N)
        return self.ranks(ratio_N[:, None], cell_NM, group_N).squeeze(1)

    def ranks(self, ratio_NQ: Tensor, cell_NM: Tensor, group_N: Tensor) -> Tensor:
        """Return the `[N, Q]` ranks of watch ratios under weights of the cells `[N, M]`."""
        start_N1, width_NM = self._axis(group_N)
        return mixture_rank(ratio_NQ, start_N1[:, None], width_NM[:, None], cell_NM[:, None])

    def crps(self, ratio_N: Tensor, cell_NM: Tensor, group_N: Tensor) -> Tensor:
        """Return the `[N]` ranked probability scores of weights of the cells `[N, M]`, see `mixture_crps`."""
        return mixture_crps(ratio_N, cell_NM, *self._axis(group_N))

    def quantiles(self, cell_NM: Tensor, group_N: Tensor, levels: tuple[float, ...]) -> Tensor:
        """Return the `[N, Q]` quantiles of the watch ratio under weights of the cells `[N, M]`."""
        return mixture_quantiles(cell_NM, *self._axis(group_N), levels)

    def _axis(self, group_N: Tensor) -> tuple[Tensor, Tensor]:
        return embedding(group_N, self.start), embedding(group_N, self.width)


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
