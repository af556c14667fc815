"""A distribution over parts of an axis as a cumulative distribution."""

# Shape suffixes: ... exposures, K anchors or other parts, Q quantiles.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def mixture_quantiles(weight_K: Tensor, start_1: Tensor, width_K: Tensor, levels: Sequence[float]) -> Tensor:
    """Return quantiles of the law that spreads each anchor's weight evenly over its part of the ratio axis.

        x(q) = start + Σ_k clip( (q - Σ_{j<k} β_j) / β_k, 0, 1 ) width_k

    Continuous in the weights, non-decreasing in q, and without a search: a term is 0 above the quantile,
    the whole width below it, and a fraction in the one part that holds it.

    Args:
        weight_K: `[..., K]` β, each row summing to 1.
        start_1: `[..., 1]` where the first part begins.
        width_K: `[..., K]` widths of the parts, ≥ 0: differences of their edges.
        levels: Q levels in (0, 1).

    Returns:
        `[..., Q]` watch ratios.
    """
    # The cumulative sum without the part itself, by a matrix of ones: CumSum takes three times as long.
    below_K = weight_K @ weight_K.new_ones(width_K.shape[-1], width_K.shape[-1]).triu(1)
    share_K = weight_K.clamp(min=1e-7)
    # Levels come first while the parts are added up: as the innermost but one they cost twice the time.
    level = torch.tensor(levels, dtype=weight_K.dtype).reshape(-1, *([1] * weight_K.dim()))
    inside_QK = ((level - below_K) / share_K).clamp(0, 1) * width_K
    # dim(), not -1: onnxruntime 1.31 reduces no rows wrongly along a negative axis.
    return start_1 + inside_QK.sum(weight_K.dim()).movedim(0, -1)


def mixture_rank(ratio: Tensor, start_1: Tensor, width_K: Tensor, share_K: Tensor) -> Tensor:
    """Return the inverse: the rank in [0, 1] of watch ratios `[...]` among parts of the weights `share_K`."""
    low_K = start_1 + width_K.cumsum(-1) - width_K
    inside_K = ((ratio[..., None] - low_K) / width_K.clamp(min=1e-7)).clamp(0, 1)
    return (inside_K * share_K).sum(-1)
