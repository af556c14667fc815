"""Damped conjugate gradients: linear equations with a map that has no matrix."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from training.forgetting._products import LinearMap


class Solution(NamedTuple):
    """Where conjugate gradients stopped."""

    x: Tensor
    residual: float
    """‖b - (A + δI) x‖ / ‖b‖; 0 where b is zero."""
    iterations: int
    indefinite: bool
    """Whether a direction without positive curvature was met, which ends the iteration before it."""


def conjugate_gradients(
    product: LinearMap,
    target: Tensor,
    *,
    damping: float = 0.0,
    tolerance: float = 1e-6,
    max_iterations: int = 100,
) -> Solution:
    """Solve (A + δI) x = b from x = 0.

    Args:
        product: v -> A v, symmetric.
        target: b, of any shape.
        damping: δ ≥ 0, which also makes up for curvature that is slightly negative.
        tolerance: the iteration ends at ‖b - (A + δI) x‖ ≤ tolerance ‖b‖.
        max_iterations: or after so many products.

    Source: Hestenes & Stiefel, "Methods of conjugate gradients for solving linear systems", 1952.
    """
    x, rest, direction = torch.zeros_like(target), target.clone(), target.clone()
    length = whole = float(target.square().sum())
    iterations, indefinite = 0, False
    while length > tolerance**2 * whole and iterations < max_iterations:
        image = product(direction) + damping * direction
        curvature = float((direction * image).sum())
        if not curvature > 0:
            indefinite = True
            break
        step = length / curvature
        x += step * direction
        rest -= step * image
        length, former = float(rest.square().sum()), length
        direction = rest + (length / former) * direction
        iterations += 1
    return Solution(x, (length / whole) ** 0.5 if whole else 0.0, iterations, indefinite)
