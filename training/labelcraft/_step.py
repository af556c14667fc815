"""One mini-batch of LabelCraft: the outer step moves the labels, the inner step trains on them."""

# Shape suffixes: B rows of the inner batch, U users, C candidates (padded), F feedback columns, T objectives.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import torch
from torch import Tensor

from training.encoders import DIN, DinInputs
from training.labelcraft._balance import gradient_weights, objective_weights
from training.labelcraft._config import LabelCraftConfig
from training.labelcraft._gradients import (
    Inner,
    Params,
    Rates,
    call,
    descend,
    outer_gradient,
    outer_gradients,
    parameters_of,
)
from training.labelcraft._model import LabelCraft
from training.labelcraft._objectives import OBJECTIVES, Candidates, Objective
from training.labelcraft._soft_top_k import relative_temperature, soft_top_k
from training.train.checkpoints import State

_BETA2: Final = 0.999
_EPSILON: Final = 1e-8
"""Adam's."""


class Moments(NamedTuple):
    """Second moments of the inner gradients so far: what Adam divides the next gradient by."""

    square: dict[str, Tensor]
    """Running mean of the squared gradients, by the parameter's name."""
    steps: int
    """Gradients so far; 0 for plain SGD."""

    def after(self, gradient: Params) -> Moments:
        """Return the moments with one gradient more."""
        keep = _BETA2 if self.steps else 0.0
        square = {n: keep * self.square.get(n, 0.0) + (1 - _BETA2) * g * g for n, g in gradient.items()}
        return Moments(square, self.steps + 1)

    def rates(self, lr: Mapping[str, float]) -> Rates:
        """Return η of each element: `lr / (√v̂ + ε)`, v̂ the bias-corrected mean; without moments `lr`.

        An element that no gradient has reached, such as the row of a video not met before, gets 0: how far
        it would move is not known yet.
        """
        if not self.steps:
            return lr
        bias_correction = 1 - _BETA2**self.steps
        return {
            n: torch.where(
                self.square[n] > 0, rate / ((self.square[n] / bias_correction).sqrt() + _EPSILON), 0.0
            )
            for n, rate in lr.items()
        }


class StepMetrics(NamedTuple):
    """What one mini-batch measured."""

    loss: float
    """L(θ, y) before the step."""
    objectives: list[float]
    """M_1 … M_T at the lookahead θ'; empty without an outer step."""
    weights: list[float]
    """ω"""
    gradient_norm: float
    """‖∇_φ M‖"""


class BilevelLearner:
    """Both levels of LabelCraft and the step that moves them; its equations are in the package's docstring.

    With `config.freeze` there is no outer step, and it is plain training on fixed labels.

    Args:
        recommender: f_θ, changed in place.
        label_maker: g_φ, changed in place.
        config: rates and the rest.
        objectives: by name; weighed in this order.
        target_mean: the mean label to hold; `None` lets it drift.

    Raises:
        ValueError: `config.disable` names no objective.

    Source: LabelCraft, WSDM 2024, algorithm of the released code (train_one_epoch).
    """

    def __init__(
        self,
        recommender: DIN,
        label_maker: LabelCraft,
        config: LabelCraftConfig,
        objectives: Mapping[str, Objective] = OBJECTIVES,
        target_mean: float | None = None,
    ) -> None:
        self.recommender, self.label_maker, self.config = recommender, label_maker, config
        self.objectives = dict(objectives)
        self._target_mean = target_mean
        names = list(self.objectives)
        if config.disable is not None and config.disable not in names:
            raise ValueError(f"`disable` must be one of {names}, got {config.disable!r}.")
        self._disabled = None if config.disable is None else names.index(config.disable)
        embeddings = config.lr_embeddings or config.lr_recommender
        self._lr = {
            name: embeddings if name.startswith(("user.", "item.")) else config.lr_recommender
            for name, _ in recommender.named_parameters()
        }
        self._decay = config.lr_recommender * config.weight_decay
        self.moments = Moments({}, 0)
        self._phi = list(label_maker.parameters())
        self.frozen = config.freeze
        if not self.frozen:
            optimiser = torch.optim.SGD if config.outer_optimiser == "sgd" else torch.optim.Adam
            self.optimiser = optimiser(self._phi, lr=config.lr_labels, maximize=True)

    def state_dict(self) -> State:
        """Return what its steps depend on besides the weights: the optimiser and the moments."""
        optimiser = {} if self.frozen else self.optimiser.state_dict()
        return {"optimiser": optimiser, **self.moments._asdict()}

    def load_state_dict(self, state_dict: State, /) -> None:
        """Continue from what `state_dict` returned."""
        if not self.frozen:
            self.optimiser.load_state_dict(state_dict["optimiser"])
        self.moments = Moments(state_dict["square"], state_dict["steps"])

    def step(
        self,
        batch: DinInputs,
        feedback_BF: Tensor,
        users: tuple[DinInputs, Candidates] | None,
        on_stage: Callable[[str], None] = lambda _: None,
        *,
        freeze_labels: bool = False,
    ) -> StepMetrics:
        """Move φ and θ by one mini-batch.

        Args:
            batch: B training rows, one candidate each.
            feedback_BF: what their users did, raw.
            users: held-out users of this step, from `HoldOut.sample`; may be `None` when frozen.
            on_stage: called with the name of each stage as it ends, for the benchmark.
            freeze_labels: leave φ in this step; so does a first step by `adam`, which has no moments yet.
        """
        params = parameters_of(self.recommender)
        inner = Inner(lambda p: self._scores(p, batch)[:, 0], params, loss=self.config.loss)
        on_stage("inner_forward")
        adam = self.config.inner_optimiser == "adam"
        frozen = self.frozen or freeze_labels or (adam and not self.moments.steps)
        with torch.set_grad_enabled(not frozen):
            label_B = self.label_maker(feedback_BF)
        metrics = StepMetrics(float(inner.loss(label_B)), [], [], 0.0)
        if not frozen:
            assert users is not None
            metrics = self._outer(inner, params, label_B, users, metrics, on_stage)
            label_B = self._relabelled(feedback_BF)
        gradient = inner.gradient(label_B)
        if adam:
            # No gradient is taken through this step: as usually written, it divides by its own gradient, too.
            self.moments = self.moments.after(gradient)
        for name, p in descend(params, gradient, self.moments.rates(self._lr), self._decay).items():
            params[name].copy_(p)
        on_stage("inner_step")
        return metrics

    def measure(self, params: Params, inputs: DinInputs, candidates: Candidates) -> Tensor:
        """Return the `[T]` objectives as means over users, of the recommender with these parameters."""
        config = self.config
        score_UC = torch.sigmoid(call(self.recommender, params, *inputs))
        temperature_U = (
            relative_temperature(score_UC, candidates.mask, share=config.temperature)
            if config.epsilon is None
            else torch.full((len(score_UC),), config.epsilon * config.k**2 / 2)
        )
        alpha_UC = soft_top_k(score_UC, candidates.mask, config.k, temperature=temperature_U)
        slate_weight_UC = alpha_UC / config.k
        values = [objective(slate_weight_UC, candidates).mean() for objective in self.objectives.values()]
        return torch.stack(values)

    def _outer(
        self,
        inner: Inner,
        params: Params,
        label_B: Tensor,
        users: tuple[DinInputs, Candidates],
        metrics: StepMetrics,
        on_stage: Callable[[str], None],
    ) -> StepMetrics:
        """Lookahead, objectives, and the step of φ."""
        rates = self.moments.rates(self._lr)
        lookahead_params = descend(params, inner.gradient(label_B), rates, self._decay)
        on_stage("look_ahead")
        values_T, weights_T, direction = self._direction(lookahead_params, users)
        on_stage("hold_out")
        cotangent_B = inner.label_gradient(direction, rates)
        on_stage("label_gradient")
        hold_mean = self._target_mean is not None
        grads = torch.autograd.grad(label_B, self._phi, cotangent_B, retain_graph=hold_mean)
        if hold_mean:
            grads = _without(grads, torch.autograd.grad(label_B.mean(), self._phi))
        for p, g in zip(self._phi, grads, strict=True):
            p.grad = g
        self.optimiser.step()
        norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in grads]))
        on_stage("labels")
        return StepMetrics(metrics.loss, values_T.detach().tolist(), weights_T.tolist(), float(norm))

    def _direction(
        self, lookahead_params: Params, users: tuple[DinInputs, Candidates]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Objectives of the recommender after the inner step, their weights, and v = Σ ω_i ∇_θ' M_i."""
        config, values_T, weights_T = self.config, torch.zeros(0), torch.zeros(0)
        mode = config.balance
        if mode == "gradcraft":
            values_T, gradients = outer_gradients(lambda p: self.measure(p, *users), lookahead_params)
            weights_T = gradient_weights(gradients, tau=config.tau, disable=self._disabled)
            weighted = list(zip(weights_T, gradients, strict=True))
            direction = {n: torch.stack([w * g[n] for w, g in weighted]).sum(0) for n in lookahead_params}
            return values_T, weights_T, direction

        def total(params: Params) -> Tensor:
            nonlocal values_T, weights_T
            values_T = self.measure(params, *users)
            weights_T = objective_weights(values_T, tau=config.tau, mode=mode, disable=self._disabled)
            return (weights_T * values_T).sum()

        _, direction = outer_gradient(total, lookahead_params)
        return values_T, weights_T, direction

    @torch.no_grad()
    def _relabelled(self, feedback_BF: Tensor) -> Tensor:
        """The batch's labels after the outer step, `[B]`."""
        if self._target_mean is not None:
            return self.label_maker.relevel(feedback_BF, self._target_mean)
        label_B: Tensor = self.label_maker(feedback_BF)
        return label_B

    def _scores(self, params: Params, inputs: DinInputs) -> Tensor:
        """Predictions as the inner loss takes them, `[U, C]`."""
        z_UC = call(self.recommender, params, *inputs)
        return torch.sigmoid(z_UC) if self.config.loss == "mse" else z_UC


def _without(vector: Sequence[Tensor], direction: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """`vector` without its component along `direction`; both are a tensor for each parameter."""
    dot = sum(float((v * d).sum()) for v, d in zip(vector, direction, strict=True))
    norm = sum(float((d * d).sum()) for d in direction)
    share = dot / norm if norm > 0 else 0.0
    return tuple(v - share * d for v, d in zip(vector, direction, strict=True))
