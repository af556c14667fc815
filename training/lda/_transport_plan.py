"""The transport plan: which anchors of its group each exposure is sent to."""

# Shape suffixes: N exposures, G groups, M the most exposures of a group, K anchors.

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from training.lda._sinkhorn import sinkhorn


@torch.no_grad()
def transport_plan(
    cost_NK: Tensor, group_N: Tensor, groups: int, *, epsilon: float, kappa: float, iterations: int
) -> Tensor:
    """Compute the semi-relaxed transport of the exposures of each group to that group's anchors.

    One problem a group, both marginals even (1/n over its exposures, 1/K over its anchors), all solved at
    once: the same plan as one problem with infinite cost on other groups' anchors would give up to the
    groups' shares of the batch, at a tenth of the work.

    Args:
        cost_NK: `[N, K]` cost of sending an exposure to each anchor of its own group.
        group_N: `[N]` its group.
        groups: G.
        epsilon, kappa, iterations: see `sinkhorn`.

    Returns:
        `[N, K]` the plan with rows summing to 1: soft pseudo-labels, without a gradient.
    """
    member_NG = one_hot(group_N, groups)
    count_G = member_NG.sum(0)
    slot_N = (member_NG.cumsum(0) - 1).gather(1, group_N[:, None]).squeeze(1)
    most = int(count_G.max())
    cost_GMK = cost_NK.new_zeros(groups, most, cost_NK.shape[1])
    mass_GM = cost_NK.new_zeros(groups, most)
    cost_GMK[group_N, slot_N] = cost_NK.detach()
    mass_GM[group_N, slot_N] = 1.0 / count_G[group_N].to(cost_NK.dtype)
    even_K = cost_NK.new_full((cost_NK.shape[1],), 1.0 / cost_NK.shape[1])
    plan_GMK = sinkhorn(
        cost_GMK, mass_GM, even_K, epsilon=epsilon, kappa=kappa, iterations=iterations, tolerance=1e-3
    )
    plan_NK = plan_GMK[group_N, slot_N]
    return plan_NK / plan_NK.sum(-1, keepdim=True)
