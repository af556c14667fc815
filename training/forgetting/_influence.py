"""The influence update: one or two Newton steps from the fitted parameters towards those of a fit without
the forgotten rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from torch import Tensor
from torch.func import grad

from training.forgetting._conjugate_gradients import conjugate_gradients
from training.forgetting._products import LinearMap, Loss, hessian_product


@dataclass(frozen=True)
class Removal:
    """A removal of rows, as losses of the parameters that are updated.

    They are sums over rows. Rows and penalties that these parameters do not reach may be left out.
    """

    remaining: Loss
    """Of the remaining rows, with penalties, as the model computes it without the forgotten rows."""
    forgotten: Loss
    """Of the forgotten rows, as the model was fitted."""
    spillover: Loss | None = None
    """Of the remaining rows whose prediction used forgotten ones, as fitted, less the same rows as computed
    without them: through a graph, through histories, or through tables of statistics."""

    def gradient(self, parameters: Tensor) -> Tensor:
        """Return Δ, what the removal takes from the gradient at the fitted parameters."""
        change: Tensor = grad(self.forgotten)(parameters)
        return change if self.spillover is None else change + grad(self.spillover)(parameters)


class Update(NamedTuple):
    """Parameters without the forgotten rows, and how nearly."""

    parameters: Tensor
    residual: float
    """‖Δ - (∇L(θ) - ∇L(θ̂))‖ / ‖Δ‖ over the remaining rows' L: the share of the change of the gradient that
    the update has not made up for. 1 does nothing, 0 is a stationary point where θ̂ was one."""
    iterations: int
    """Products with the curvature."""
    indefinite: bool
    """Whether the damped curvature had a direction that is not positive: the damping is too small."""


Curvature = Callable[[Tensor], LinearMap]
"""Parameters -> the curvature there."""


def influence_update(
    removal: Removal,
    fitted: Tensor,
    *,
    curvature: Curvature | None = None,
    damping: float = 0.0,
    tolerance: float = 1e-6,
    max_iterations: int = 100,
    steps: int = 1,
) -> Update:
    """Move fitted parameters to where a fit without the forgotten rows would have ended.

        (H(θ) + δI) p = Δ - (∇L(θ) - ∇L(θ̂)),   θ ← θ + p,   from θ = θ̂

    L is the loss of the remaining rows. What early stopping left of the gradient at θ̂ is not descended:
    removing nothing changes nothing.

    Args:
        removal: which rows, as losses.
        fitted: θ̂, the parameters that are updated, of any shape.
        curvature: H; by default the Hessian of `removal.remaining`.
        damping: δ ≥ 0.
        tolerance, max_iterations: of each step's conjugate gradients.
        steps: 1, or 2 where the loss is far from quadratic over the removal.

    Source: Zhang et al., "Recommendation Unlearning via Influence Function", 2023. Ours: the curvature is
    that of the remaining rows instead of all, the equations are solved by conjugate gradients to a residual
    instead of by Adam until a validation AUC is best, and a second step corrects the first.
    """
    curvature = curvature or partial(hessian_product, removal.remaining)
    parameters, iterations, indefinite = fitted, 0, False
    change = missing = removal.gradient(fitted)
    for _ in range(steps):
        step = conjugate_gradients(
            curvature(parameters),
            missing,
            damping=damping,
            tolerance=tolerance,
            max_iterations=max_iterations,
        )
        parameters = parameters + step.x
        iterations, indefinite = iterations + step.iterations, indefinite or step.indefinite
        missing = _missing(removal, fitted, parameters, change)
    whole = float(change.norm())
    residual = float(missing.norm()) / whole if whole else 0.0
    return Update(parameters, residual, iterations, indefinite)


def _missing(removal: Removal, fitted: Tensor, parameters: Tensor, change: Tensor) -> Tensor:
    gradient = grad(removal.remaining)
    rest: Tensor = change - (gradient(parameters) - gradient(fitted))
    return rest
