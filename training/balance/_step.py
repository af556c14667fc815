"""One backward pass of several objectives that share parameters."""

# Shape suffixes: T objectives.

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor
from torchjd.aggregation import GramianWeightedAggregator, Weighting
from torchjd.autojac import jac_to_grad, mtl_backward
from torchjd.linalg import PSDMatrix

Balancer = Weighting[PSDMatrix]
"""Gramian of the objectives' gradients `[T, T]` -> weights `[T]`: GradCraft, and TorchJD's `…Weighting`."""


def balanced_backward(
    losses: Sequence[Tensor], shared_state: Tensor, shared: Iterable[Tensor], balancer: Balancer
) -> Tensor:
    """Fill `.grad`: of what is shared with the balanced gradient, of everything behind it with the sum's.

    One pass backward for each objective through what is shared, T in all; their Gramian gives the weights,
    and one weighted sum of the T gradients is left. Nothing of size T outlives the call.

    Args:
        losses: T scalars, all made from `shared_state`.
        shared_state: the last thing that all objectives read.
        shared: the parameters it was made with. Those it does not depend on get 0.
        balancer: weighs the gradients.

    Returns:
        `[T]` the weights, detached.
    """
    parameters = [p for p in shared if p.requires_grad]
    # One at a time: in parallel (vmap) takes as long on a CPU, and T times the memory.
    # The graph is kept meanwhile, because the logits behind the state are one layer.
    mtl_backward(losses, shared_state, shared_params=parameters, retain_graph=True, parallel_chunk_size=1)
    # The sum of the tables' own Gramians: the T gradients are never copied into one matrix.
    weights: Tensor = jac_to_grad(
        parameters,
        GramianWeightedAggregator(balancer),
        optimize_gramian_computation=True,
    )
    return weights.detach()
