"""The outer gradient of LabelCraft without second-order autodiff: one backward, one forward-mode product."""

# Shape suffixes: B rows of the inner batch.

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

with warnings.catch_warnings():
    # torch scripts its forward-mode formulas on their first import, and warns of torch.jit.script.
    warnings.simplefilter("ignore", DeprecationWarning)
    import torch._decomp.decompositions_for_jvp

Params = Mapping[str, Tensor]
"""The recommender's parameters by name; values are detached unless said otherwise."""

InnerLoss = Literal["mse", "bce"]
"""`mse`: predictions are probabilities, mean squared error. `bce`: predictions are logits, cross entropy."""


class Inner(NamedTuple):
    """One inner gradient."""

    loss: Tensor
    """scalar"""
    gradient: dict[str, Tensor]
    """∇_θ L, of the names and shapes of the parameters"""


def inner_gradient(
    predict: Callable[[Params], Tensor], params: Params, label_B: Tensor, *, loss: InnerLoss
) -> Inner:
    """L and ∇_θ L on one batch with the labels as they are (detached).

    Args:
        predict: parameters -> predictions `[B]` on the batch, probabilities or logits as `loss` says.
        params: where.
        label_B: `[B]` targets in [0, 1].
        loss: which.
    """
    attached = {n: p.detach().requires_grad_() for n, p in params.items()}
    with torch.enable_grad():
        out_B = predict(attached)
        value = (
            nn.functional.mse_loss(out_B, label_B.detach())
            if loss == "mse"
            else nn.functional.binary_cross_entropy_with_logits(out_B, label_B.detach())
        )
        grads = torch.autograd.grad(value, list(attached.values()), allow_unused=True)
    return Inner(value.detach(), _by_name(attached, grads))


def step(params: Params, gradient: Params, lr: Mapping[str, float]) -> dict[str, Tensor]:
    """θ' = θ - η ∇_θ L, with a rate for each parameter."""
    return {n: p.detach() - lr[n] * gradient[n] for n, p in params.items()}


def outer_gradient(objective: Callable[[Params], Tensor], params: Params) -> tuple[Tensor, dict[str, Tensor]]:
    """M and v = ∇_θ' M: one backward on the hold-out batch.

    Args:
        objective: parameters -> M, a scalar.
        params: θ', the parameters after the inner step.
    """
    attached = {n: p.detach().requires_grad_() for n, p in params.items()}
    with torch.enable_grad():
        value = objective(attached)
        grads = torch.autograd.grad(value, list(attached.values()), allow_unused=True)
    return value.detach(), _by_name(attached, grads)


def label_gradient(
    predict: Callable[[Params], Tensor],
    params: Params,
    direction: Params,
    *,
    lr: Mapping[str, float],
    loss: InnerLoss,
) -> Tensor:
    """∂M/∂y_b: had row b been labelled higher, how much better would the recommender do after one step?

    The inner gradient is linear in the labels, so θ'(y) = θ - η ∇L is too, and with v = ∇_θ' M

        mse:   ∂M/∂y_b = (2/B) ⟨∇_θ f(x_b), η v⟩          f = probabilities
        bce:   ∂M/∂y_b = (1/B) ⟨∇_θ z(x_b), η v⟩          z = logits

    for all b at once: the derivative of the predictions along η v, one forward-mode pass. Exact, and no
    graph of the inner step is kept. A rate for each parameter (any fixed diagonal preconditioner) is as
    exact as one for all; a rate that depends on the current gradient (Adam) would not be.

    Args:
        predict: parameters -> `[B]` on the inner batch, as given to `inner_gradient`.
        params: θ, before the inner step.
        direction: v, from `outer_gradient` at θ'.
        lr: η of each parameter, as given to `step`.
        loss: as given to `inner_gradient`.

    Returns:
        `[B]`. Give it to `label_B.backward(...)` with the sign of an ascent, and φ has its gradient.

    Source: LabelCraft, WSDM 2024, §1.5; the authors differentiate twice through a copy of the model. Equal
    to that and to finite differences, see the tests.
    """
    primals = {n: p.detach() for n, p in params.items()}
    tangents = {n: lr[n] * direction[n] for n in primals}
    products = jvp(predict, (primals,), (tangents,))
    along_B: Tensor = products[1]
    return along_B.detach() * ((2.0 if loss == "mse" else 1.0) / max(len(along_B), 1))


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """θ by name, detached and sharing memory with the model."""
    return {n: p.detach() for n, p in model.named_parameters()}


def call(model: nn.Module, params: Params, *inputs: Tensor | None) -> Tensor:
    """`model(*inputs)` with other parameters; its buffers stay."""
    out: Tensor = functional_call(model, dict(params), inputs)
    return out


def _by_name(params: Params, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
    return {
        n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(params.items(), grads, strict=True)
    }
