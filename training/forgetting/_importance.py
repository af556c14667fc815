"""Importance-based pruning: which embedding rows a removal is worth updating."""

# Shape suffixes: V nodes (users and videos), E edges.

from __future__ import annotations

import torch
from torch import Tensor


def node_importance(edges_E2: Tensor, removed_E: Tensor, nodes: int, *, hops: int = 0) -> Tensor:
    """Return how much of each node's evidence a removal takes.

        w_v = removed edges at v / edges at v        then, hops times:  w_v ← w_v + Σ_{u~v} w_u / edges at v

    Sums run over the edges before the removal.

    Args:
        edges_E2: ends of each edge: a user and a video, as nodes.
        removed_E: whether the edge is removed, bool.
        nodes: V.
        hops: how far importance spreads along edges: 0 where a row's prediction depends on its two ends
            alone, as in matrix factorisation, 1 for one layer of a graph network.

    Returns:
        `[V]` at least 0; 0 for nodes that the removal does not reach.

    Source: Zhang et al., "Recommendation Unlearning via Influence Function", 2023.
    """
    ends, others = edges_E2.T.reshape(-1), edges_E2.flip(1).T.reshape(-1)
    degree_V = torch.bincount(ends, minlength=nodes).clamp(min=1).double()
    weight_V = torch.bincount(ends, removed_E.repeat(2).double(), minlength=nodes) / degree_V
    for _ in range(hops):
        weight_V = weight_V + torch.bincount(ends, weight_V[others], minlength=nodes) / degree_V
    return weight_V


def keep_important(weight_V: Tensor, quantile: float = 0.0) -> Tensor:
    """Return the nodes to update, ascending: those that the removal reaches, less the least important.

    Args:
        weight_V: `node_importance`.
        quantile: the share of the reached nodes to leave out, in [0, 1); 0 keeps them all.

    Raises:
        ValueError: the quantile is outside its range.
    """
    if not 0 <= quantile < 1:
        raise ValueError(f"`quantile` must be in [0, 1), found {quantile}.")
    reached = torch.nonzero(weight_V > 0)[:, 0]
    dropped = int(quantile * len(reached))
    order = torch.argsort(weight_V[reached], stable=True)
    return reached[order[dropped:]].sort().values
