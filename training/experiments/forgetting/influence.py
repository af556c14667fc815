"""Forgetting by influence in a model of ids: the embeddings that a removal reaches, by the rows near them."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from training.experiments.forgetting.config import InfluenceConfig
from training.experiments.forgetting.id_model import IdModel, total_loss
from training.experiments.forgetting.rows import Rows, node_mask
from training.forgetting import (
    Removal,
    hessian_product,
    influence_update,
    keep_important,
    node_importance,
)


class Forgotten(NamedTuple):
    """A table without some rows, and how it came about."""

    table: Tensor
    """`[V, D]`"""
    nodes: int
    """Rows of the table that were updated; the others are bit-identical."""
    residual: float
    """As in `Update`."""
    iterations: int
    """Products with the curvature."""
    indefinite: bool
    """As in `Update`."""


def forget_rows(
    model: IdModel,
    table_VD: Tensor,
    rows: Rows,
    removed: Tensor,
    penalty: float,
    config: InfluenceConfig,
    *,
    steps: int = 1,
    spillover: bool = True,
    nodes: Tensor | None = None,
    all_rows_curvature: bool = False,
) -> Forgotten:
    """Update a fitted table to that of a fit without some rows.

    Nodes of which no row remains are set to 0, where the penalty has its minimum.

    Args:
        model: as it was fitted.
        table_VD: as it was fitted.
        rows: what it was fitted on.
        removed: which of them to forget, bool `[N]`.
        penalty: of the fit.
        config: damping, pruning and solver.
        steps: of Newton's method.
        spillover: whether the change of the graph counts beside the forgotten rows' own loss.
        nodes: embeddings to update; by default the important ones.
        all_rows_curvature: take the curvature of all rows, as before the removal.
    """
    remaining, forgotten = rows.take(~removed), rows.take(removed)
    spillover = spillover and model.hops > 0
    if nodes is None:
        importance_V = node_importance(rows.edges, removed, len(table_VD), hops=model.hops)
        nodes = keep_important(importance_V, config.quantile)
    selected_V = node_mask(nodes, len(table_VD))
    without = model.on_rows(remaining)
    near = remaining.take(remaining.touching(model.reached(selected_V)))
    # From here on in a table of what these rows depend on: for one user that is a hundredth of it.
    ends_V = node_mask(torch.cat([near.edges, forgotten.edges]).reshape(-1), len(table_VD))
    inside = torch.nonzero(model.reached(ends_V))[:, 0]
    index_V = torch.empty(len(table_VD), dtype=torch.int64)
    index_V[inside] = torch.arange(len(inside))
    model, without = model.within(ends_V, index_V), without.within(ends_V, index_V)
    near, forgotten = near.renamed(index_V), forgotten.renamed(index_V)
    local, local_nodes = table_VD[inside], index_V[nodes]

    def loss(graph: IdModel, part: Rows, selected: Tensor) -> Tensor:
        return total_loss(graph, local.index_copy(0, local_nodes, selected), part)

    def penalised(graph: IdModel, part: Rows, selected: Tensor) -> Tensor:
        return loss(graph, part, selected) + penalty / 2 * selected.square().sum()

    removal = Removal(
        partial(penalised, without if spillover else model, near),
        partial(loss, model, forgotten),
        (lambda selected: loss(model, near, selected) - loss(without, near, selected)) if spillover else None,
    )
    complete = Rows(*(torch.cat(pair) for pair in zip(near, forgotten, strict=True)))
    update = influence_update(
        removal,
        table_VD[nodes],
        curvature=partial(hessian_product, partial(penalised, model, complete))
        if all_rows_curvature
        else None,
        damping=config.damping,
        tolerance=config.tolerance,
        max_iterations=config.max_iterations,
        steps=steps,
    )
    table = table_VD.index_copy(0, nodes, update.parameters)
    left_V = node_mask(remaining.edges.reshape(-1), len(table_VD))
    orphans = torch.nonzero(selected_V & ~left_V)[:, 0]
    table = table.index_fill(0, orphans, 0.0)
    return Forgotten(table, len(nodes), *update[1:])
