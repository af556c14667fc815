"""The outer gradient of LabelCraft without second-order autodiff: one backward, one forward-mode product."""

# Shape suffixes: B rows of the inner batch.

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

with warnings.catch_warnings():
    # torch scripts its forward-mode formulas on their first import, and warns of torch.jit.script.
    warnings.simplefilter("ignore", DeprecationWarning)
    import torch._decomp.decompositions_for_jvp

Params = Mapping[str, Tensor]
"""The recommender's parameters by name; values are detached unless said otherwise."""

Rates = Mapping[str, float | Tensor]
"""η by the parameter's name: one number, or one for each element."""

InnerLoss = Literal["mse", "bce"]
"""`mse`: predictions are probabilities, mean squared error. `bce`: predictions are logits, cross entropy."""


class Inner:
    """The inner level on one batch: L(θ, y) as a function of the labels, at fixed parameters.

    The batch is run once; gradients for other labels reuse its graph, because θ stays and ∇_θ L is the
    pullback of ∂L/∂f, which alone depends on the labels. LabelCraft needs two: with the old labels for the
    lookahead, with the new ones for the step that counts.

    Args:
        predict: parameters -> predictions `[B]` on the batch, probabilities or logits as `loss` says.
        params: θ. Not modified.
        loss: which of the two.
    """

    def __init__(
        self, predict: Callable[[Params], Tensor], params: Params, *, loss: InnerLoss = "mse"
    ) -> None:
        self._predict = predict
        self._kind: InnerLoss = loss
        self._params = {n: p.detach().requires_grad_() for n, p in params.items()}
        with torch.enable_grad():
            self._out_B = predict(self._params)

    def loss(self, label_B: Tensor) -> Tensor:
        """Return L(θ, y), a scalar without gradient, for labels `[B]` in [0, 1]."""
        out_B, label_B = self._out_B.detach(), label_B.detach()
        if self._kind == "mse":
            return nn.functional.mse_loss(out_B, label_B)
        return nn.functional.binary_cross_entropy_with_logits(out_B, label_B)

    def gradient(self, label_B: Tensor) -> dict[str, Tensor]:
        """Return ∇_θ L(θ, y) for labels `[B]`, detached: one backward."""
        out_B, label_B = self._out_B.detach(), label_B.detach()
        residual_B = 2 * (out_B - label_B) if self._kind == "mse" else torch.sigmoid(out_B) - label_B
        grads = torch.autograd.grad(
            self._out_B,
            list(self._params.values()),
            residual_B / max(len(residual_B), 1),
            retain_graph=True,
            allow_unused=True,
        )
        return _by_name(self._params, grads)

    def label_gradient(self, direction: Params, lr: Rates) -> Tensor:
        """Return ∂M/∂y_b: how much M after one step would rise with the label of row b.

        The inner gradient is linear in the labels, so θ'(y) = θ - η ∇L is too, and with v = ∇_θ' M

            mse:   ∂M/∂y_b = (2/B) ⟨∇_θ f(x_b), η v⟩          f = probabilities
            bce:   ∂M/∂y_b = (1/B) ⟨∇_θ z(x_b), η v⟩          z = logits

        for all b at once: the derivative of the predictions along η v, one forward-mode pass. Exact, and
        no graph of the inner step is kept. A rate for each element (any fixed diagonal preconditioner, such
        as the second moments of the gradients before this one) is as exact as one for all; a rate that
        depends on this gradient (Adam as usually written) would not be.

        Args:
            direction: v, from `outer_gradient` at θ'.
            lr: η of each parameter or of each of its elements, as given to `descend`.

        Returns:
            `[B]`. As the gradient of `label_B` it gives φ its own: `autograd.grad(label_B, φ, this)`.

        Source: LabelCraft, WSDM 2024; the authors differentiate twice through a copy of the model. Equal to
        that and to finite differences, see the tests.
        """
        primals = {n: p.detach() for n, p in self._params.items()}
        tangents = {n: lr[n] * direction[n] for n in primals}
        products = jvp(self._predict, (primals,), (tangents,))
        along_B: Tensor = products[1]
        return along_B.detach() * ((2.0 if self._kind == "mse" else 1.0) / max(len(along_B), 1))


def descend(params: Params, gradient: Params, lr: Rates, decay: float = 0.0) -> dict[str, Tensor]:
    """Return θ' = (1 - decay) θ - η ∇_θ L, with a rate for each parameter or element."""
    return {n: (1 - decay) * p.detach() - lr[n] * gradient[n] for n, p in params.items()}


def outer_gradient(objective: Callable[[Params], Tensor], params: Params) -> tuple[Tensor, dict[str, Tensor]]:
    """Return M and v = ∇_θ' M: one backward on the held-out batch.

    Args:
        objective: parameters -> M, a scalar.
        params: θ', the parameters after the inner step.
    """
    attached = {n: p.detach().requires_grad_() for n, p in params.items()}
    with torch.enable_grad():
        value = objective(attached)
        grads = torch.autograd.grad(value, list(attached.values()), allow_unused=True)
    return value.detach(), _by_name(attached, grads)


def outer_gradients(
    objectives: Callable[[Params], Tensor], params: Params
) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Return M `[T]` and each v_t = ∇_θ' M_t: a backward for every objective, on one forward.

    Args:
        objectives: parameters -> M, one value an objective.
        params: θ', the parameters after the inner step.
    """
    attached = {n: p.detach().requires_grad_() for n, p in params.items()}
    with torch.enable_grad():
        value_T = objectives(attached)
        gradients = [
            torch.autograd.grad(value, list(attached.values()), allow_unused=True, retain_graph=True)
            for value in value_T
        ]
    return value_T.detach(), [_by_name(attached, grads) for grads in gradients]


def parameters_of(model: nn.Module) -> dict[str, Tensor]:
    """Return θ by name, detached and sharing memory with the model."""
    return {n: p.detach() for n, p in model.named_parameters()}


def call(model: nn.Module, params: Params, *inputs: Tensor | None) -> Tensor:
    """Return `model(*inputs)` with other parameters; its buffers stay."""
    out: Tensor = functional_call(model, dict(params), inputs)
    return out


def _by_name(params: Params, grads: tuple[Tensor | None, ...]) -> dict[str, Tensor]:
    return {
        n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(params.items(), grads, strict=True)
    }
