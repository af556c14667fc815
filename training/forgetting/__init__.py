"""Forgetting that reaches the weights: rows leave a fitted model without fitting it again.

    Δ = Σ_forgotten ∇ℓ(z; θ̂) + Σ_remaining [∇ℓ(z; θ̂, complete) - ∇ℓ(z; θ̂, without the forgotten rows)]
    θ = θ̂ + (H + δI)⁻¹ Δ        with H the curvature of the remaining rows

>>> import torch
>>> x, y = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.0, 3.0, 3.0])
>>> def loss(rows):
...     return lambda mean: ((mean * x[rows] - y[rows]) ** 2).sum()
>>> fitted = (x @ y / (x @ x))[None]
>>> update = influence_update(Removal(remaining=loss([0, 2]), forgotten=loss([1])), fitted)
>>> torch.allclose(update.parameters, torch.tensor([13 / 17]))
True
"""

from training.forgetting._conjugate_gradients import Solution, conjugate_gradients
from training.forgetting._importance import keep_important, node_importance
from training.forgetting._influence import Removal, Update, influence_update
from training.forgetting._products import LinearMap, Loss, gauss_newton_product, hessian_product

__all__ = [
    "LinearMap",
    "Loss",
    "Removal",
    "Solution",
    "Update",
    "conjugate_gradients",
    "gauss_newton_product",
    "hessian_product",
    "influence_update",
    "keep_important",
    "node_importance",
]
