"""A distribution over parts of an axis as a cumulative distribution."""

# Shape suffixes: ... exposures, K anchors or other parts, Q quantiles.

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from models.metrics import COMPLETE_RATIO, SKIP_S

LEAST_SHARE: Final = 1e-5
"""A part with less than this weight is crossed as if it had it: a quantile in a part of next to no weight
would otherwise be a ratio of rounding errors, and differ between any two machines."""


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
    share_K = weight_K.clamp(min=LEAST_SHARE)
    # Levels come first while the parts are added up: as the innermost but one they cost twice the time.
    level = torch.tensor(levels, dtype=weight_K.dtype).reshape(-1, *([1] * weight_K.dim()))
    inside_QK = ((level - below_K) / share_K).clamp(0, 1) * width_K
    # dim(), not -1: onnxruntime 1.31 reduces no rows wrongly along a negative axis.
    return start_1 + inside_QK.sum(weight_K.dim()).movedim(0, -1)


def mixture_rank(ratio: Tensor, start_1: Tensor, width_K: Tensor, share_K: Tensor) -> Tensor:
    """Return the inverse: the rank in [0, 1] of watch ratios `[...]` among parts of the weights `share_K`."""
    low_K = start_1 + width_K.cumsum(-1) - width_K
    inside_K = ((ratio[..., None] - low_K) / width_K.clamp(min=1e-7)).clamp(0, 1)
    # dim(), not -1: onnxruntime 1.31 reduces no rows wrongly along a negative axis.
    return (inside_K * share_K).sum(inside_K.dim() - 1)


def mixture_crps(ratio: Tensor, weight_K: Tensor, start_1: Tensor, width_K: Tensor) -> Tensor:
    """Return the continuous ranked probability score of the law of `mixture_quantiles`, part by part.

        CRPS = ∫ (F(x) - 1[x ≥ r])² dx        of a part of width h with F from a to b: h (a² + ab + b²) / 3

    F is a line in every part; the part with r is two of them. Least, in expectation, at the true law.

    Args:
        ratio: `[...]` watch ratios r that were watched.
        weight_K, start_1, width_K: as in `mixture_quantiles`.

    Returns:
        `[...]` in the unit of `ratio`.
    """
    above_K = weight_K.cumsum(-1)
    below_K = above_K - weight_K
    low_K = start_1 + width_K.cumsum(-1) - width_K
    share_K = ((ratio[..., None] - low_K) / width_K.clamp(min=1e-7)).clamp(0, 1)
    at_K = below_K + share_K * weight_K
    before_K = share_K * (below_K.square() + below_K * at_K + at_K.square())
    at_K, above_K = 1 - at_K, 1 - above_K
    after_K = (1 - share_K) * (at_K.square() + at_K * above_K + above_K.square())
    inside = (width_K * (before_K + after_K)).sum(-1) / 3
    end = start_1.squeeze(-1) + width_K.sum(-1)
    return inside + (start_1.squeeze(-1) - ratio).relu() + (ratio - end).relu()


def state_edges(duration: Tensor) -> Tensor:
    """Return `[..., 3]` watch ratios: where a skip ends, and where a complete view begins and ends."""
    skip = (SKIP_S / duration).clamp(max=1)
    return torch.stack(
        [skip, skip.clamp(min=1 - COMPLETE_RATIO), torch.full_like(skip, 1 + COMPLETE_RATIO)], -1
    )


def state_probabilities(rank_3: Tensor) -> Tensor:
    """Return `[..., 3]` probabilities of `STATES` from the ranks of `state_edges` in a predicted law."""
    skip, start, end = rank_3.unbind(-1)
    # Rounding makes a difference of two equal ranks negative.
    return torch.stack([skip, end - start, 1 - end], -1).clamp(0, 1)


def state_loss(state_N3: Tensor, ratio_N: Tensor, duration_N: Tensor) -> Tensor:
    """Return the mean cross-entropy of the watch states, the partial view among them.

    Args:
        state_N3: `[N, 3]` as `state_probabilities`.
        ratio_N: `[N]` watch ratios that were watched.
        duration_N: `[N]` seconds.
    """
    predicted_N4, happened_N4 = (
        torch.cat([x, 1 - x.sum(-1, keepdim=True)], -1) for x in (state_N3, _happened(ratio_N, duration_N))
    )
    return -(happened_N4 * predicted_N4.clamp(min=1e-6).log()).sum(-1).mean()


def state_shares(ratio_N: Tensor, duration_N: Tensor) -> Tensor:
    """Return `[3]` shares of the rows in each of `STATES`; arguments as of `state_loss`."""
    return _happened(ratio_N, duration_N).mean(0)


def _happened(ratio_N: Tensor, duration_N: Tensor) -> Tensor:
    """`[N, 3]` 1 for the state that each row came to: the law of what happened is a step."""
    return state_probabilities((ratio_N[:, None] < state_edges(duration_N)).to(ratio_N.dtype))
