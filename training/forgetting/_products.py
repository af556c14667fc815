"""Curvature of a loss as a linear map, without its matrix."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from torch import Tensor
from torch.func import grad, jvp, vjp

with warnings.catch_warnings():
    # The first such derivative makes torch register decompositions, by a deprecated call of its own.
    warnings.simplefilter("ignore", DeprecationWarning)
    jvp(Tensor.square, (Tensor([0.0]),), (Tensor([1.0]),))

Loss = Callable[[Tensor], Tensor]
"""Parameters of any shape -> a sum over rows, a scalar. Sums, not means: curvatures and gradients of several
sets of rows then add up."""
LinearMap = Callable[[Tensor], Tensor]
"""A tensor -> one of the same shape."""


def hessian_product(loss: Loss, parameters: Tensor) -> LinearMap:
    """Return v -> ∇²L(θ) v, forward over reverse: the derivative of the gradient along v.

    Args:
        loss: L, twice differentiable.
        parameters: θ.
    """
    gradient = grad(loss)

    def product(vector: Tensor) -> Tensor:
        along: Tensor = jvp(gradient, (parameters,), (vector,))[1]
        return along

    return product


def gauss_newton_product(outputs: Callable[[Tensor], Tensor], loss: Loss, parameters: Tensor) -> LinearMap:
    """Return v -> Jᵀ ∇²L(f(θ)) J v: the Hessian without the curvature of the model itself.

    It has no negative eigenvalue where L is convex in the outputs, whatever the model.

    Args:
        outputs: f, parameters -> outputs of any shape.
        loss: L, outputs -> a scalar.
        parameters: θ.
    """
    predicted, pull_back = vjp(outputs, parameters)[:2]
    # Reverse over reverse: forward mode lacks derivatives that losses of rankers have.
    curvature = vjp(grad(loss), predicted)[1]

    def product(vector: Tensor) -> Tensor:
        along = jvp(outputs, (parameters,), (vector,))[1]
        back: Tensor = pull_back(*curvature(along))[0]
        return back

    return product
