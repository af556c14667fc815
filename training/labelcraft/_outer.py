"""One mini-batch of LabelCraft: look ahead, ask the platform, move the labels, train on them."""

# Shape suffixes: B rows of the inner batch, U users, C candidates (padded), F feedback columns, T objectives.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.arrays import F32, I64
from models.features import SEQUENCE_ID_COLUMNS
from training.data import Interactions
from training.encoders import DIN, DinInputs, DinRows, Slates, slates
from training.labelcraft._balance import gradient_weights, objective_weights
from training.labelcraft._config import LabelCraftConfig
from training.labelcraft._inner_outer import (
    Inner,
    Params,
    Rates,
    call,
    outer_gradient,
    outer_gradients,
    parameters_of,
    step,
)
from training.labelcraft._model import LabelCraft
from training.labelcraft._objectives import OBJECTIVES, Candidates, Objective
from training.labelcraft._soft_top_k import relative_temperature, soft_top_k
from training.labels import Scale, duration_s, explicit, watch_time_s

_KEEP: Final = 0.999
_TINY: Final = 1e-8
"""Adam's β2 and ε."""


class HoldOut:
    """The exposures the platform's objectives are measured on, a user's at a time.

    Users with k candidates or fewer are left out: any order shows all of them.

    Args:
        log: the log.
        rows: hold-out rows, ascending.
        prepared: the same log as DIN reads it.
        watch_scale, duration_scale: fitted on train.
        k: places of the slate.
    """

    def __init__(
        self,
        log: Interactions,
        rows: I64,
        prepared: DinRows,
        *,
        watch_scale: Scale,
        duration_scale: Scale,
        k: int,
    ) -> None:
        self._slates = slates(log, rows, more_than=k)
        self._prepared = prepared
        self._feedback = torch.from_numpy(log.feedback)
        self._author = torch.from_numpy(log.ids[:, SEQUENCE_ID_COLUMNS.index("author_id")])
        self._watch_scale, self._duration_scale = watch_scale, duration_scale

    def __len__(self) -> int:
        """Users."""
        return len(self._slates.rows)

    def of(self, users: I64) -> tuple[DinInputs, Candidates]:
        """One padded batch of the users at these places, `[U]` of 0 … len - 1."""
        mask = self._slates.mask[torch.from_numpy(users)]
        longest = int(mask.sum(-1).max()) if len(users) else 0
        picked = Slates(self._slates.rows[users, :longest], mask[:, :longest])
        feedback_UCF = self._feedback[torch.from_numpy(picked.rows)]
        return self._prepared.together(picked), Candidates(
            watch_time=self._watch_scale(watch_time_s(feedback_UCF)),
            duration=self._duration_scale(duration_s(feedback_UCF)),
            explicit=explicit(feedback_UCF),
            author=self._author[torch.from_numpy(picked.rows)],
            feedback=feedback_UCF,
            mask=picked.mask,
        )


class Moments(NamedTuple):
    """Second moments of the inner gradients so far: what `adam` divides the next one by."""

    square: dict[str, Tensor]
    """Running mean of the squared gradients, by the parameter's name."""
    steps: int
    """Gradients seen; 0 for plain SGD."""

    def after(self, gradient: Params) -> Moments:
        """With one gradient more."""
        keep = _KEEP if self.steps else 0.0
        square = {n: keep * self.square.get(n, 0.0) + (1 - _KEEP) * g * g for n, g in gradient.items()}
        return Moments(square, self.steps + 1)

    def rates(self, lr: Mapping[str, float]) -> Rates:
        """η of each element: `lr / (√v̂ + ε)`, v̂ without the bias of a young mean; without moments `lr`.

        An element that no gradient has reached, such as the row of a video not met before, gets 0: how far
        it would move is not known yet.
        """
        if not self.steps:
            return lr
        young = 1 - _KEEP**self.steps
        return {
            n: torch.where(self.square[n] > 0, rate / ((self.square[n] / young).sqrt() + _TINY), 0.0)
            for n, rate in lr.items()
        }


class MetaStep(NamedTuple):
    """What one mini-batch saw."""

    loss: float
    """L(θ, y) before the step."""
    objectives: list[float]
    """M_1 … M_T at the look-ahead θ'; empty if the outer level is frozen."""
    weights: list[float]
    """ω"""
    gradient_norm: float
    """‖∇_φ M‖"""


class MetaLearner:
    """Both levels of LabelCraft and the step that moves them.

        θ' = θ - η1 ∇_θ L(θ, φ; B)           look ahead
        φ  ← φ + η2 ∇_φ Σ_i ω_i M_i(θ')      ask the platform, ω constant
        θ  ← θ - η1 ∇_θ L(θ, φ; B)           train on the new labels

    With `config.freeze` the first two lines fall away and it is plain training on fixed labels.

    Args:
        recommender: f_θ, changed in place.
        labeler: g_φ, changed in place.
        config: rates and the rest.
        objectives: by name; weighed in this order.
        level: the mean label to hold; `None` lets it drift.

    Raises:
        ValueError: `config.disable` names no objective.

    Source: LabelCraft, WSDM 2024, algorithm of the released code (train_one_epoch).
    """

    def __init__(
        self,
        recommender: DIN,
        labeler: LabelCraft,
        config: LabelCraftConfig,
        objectives: Mapping[str, Objective] = OBJECTIVES,
        level: float | None = None,
    ) -> None:
        self.recommender, self.labeler, self.config = recommender, labeler, config
        self.objectives = dict(objectives)
        self._level = level
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
        self._phi = list(labeler.parameters())
        self.frozen = config.freeze
        if not self.frozen:
            kind = torch.optim.SGD if config.outer_optimiser == "sgd" else torch.optim.Adam
            self.optimiser = kind(self._phi, lr=config.lr_labels, maximize=True)

    def step(
        self,
        batch: DinInputs,
        feedback_BF: Tensor,
        held: tuple[DinInputs, Candidates] | None,
        on_stage: Callable[[str], None] = lambda _: None,
        *,
        hold_labels: bool = False,
    ) -> MetaStep:
        """Move φ and θ by one mini-batch.

        Args:
            batch: B training rows, one candidate each.
            feedback_BF: what their users did, raw.
            held: hold-out users of this step, from `HoldOut.of`; may be `None` when frozen.
            hold_labels: leave φ for this step; so does a first step by `adam`, which has no moments yet.
            on_stage: told the name of each stage as it ends, for the benchmark.
        """
        params = parameters_of(self.recommender)
        inner = Inner(lambda p: self._scores(p, batch)[:, 0], params, loss=self.config.loss)
        on_stage("inner_forward")
        adam = self.config.inner_optimiser == "adam"
        still = self.frozen or hold_labels or (adam and not self.moments.steps)
        with torch.set_grad_enabled(not still):
            label_B = self.labeler(feedback_BF)
        seen = MetaStep(float(inner.loss(label_B)), [], [], 0.0)
        if not still:
            assert held is not None
            seen = self._outer(inner, params, label_B, held, seen, self.moments.rates(self._lr), on_stage)
            with torch.no_grad():
                label_B = (
                    self.labeler(feedback_BF)
                    if self._level is None
                    else self.labeler.relevel(feedback_BF, self._level)
                )
        gradient = inner.gradient(label_B)
        if adam:
            # Nobody differentiates this step: as usually written, it divides by its own gradient, too.
            self.moments = self.moments.after(gradient)
        for name, p in step(params, gradient, self.moments.rates(self._lr), self._decay).items():
            params[name].copy_(p)
        on_stage("inner_step")
        return seen

    def measure(self, params: Params, held: DinInputs, of: Candidates) -> Tensor:
        """`[T]` objectives as means over users, of the recommender with these parameters."""
        config = self.config
        score_UC = torch.sigmoid(call(self.recommender, params, *held))
        temperature_U = (
            relative_temperature(score_UC, of.mask, share=config.temperature)
            if config.epsilon is None
            else torch.full((len(score_UC),), config.epsilon * config.k**2 / 2)
        )
        place_UC = soft_top_k(score_UC, of.mask, config.k, temperature=temperature_U) / config.k
        return torch.stack([objective(place_UC, of).mean() for objective in self.objectives.values()])

    def _outer(
        self,
        inner: Inner,
        params: Params,
        label_B: Tensor,
        held: tuple[DinInputs, Candidates],
        seen: MetaStep,
        rates: Rates,
        on_stage: Callable[[str], None],
    ) -> MetaStep:
        ahead = step(params, inner.gradient(label_B), rates, self._decay)
        on_stage("look_ahead")
        values_T, weights_T, direction = self._direction(ahead, held)
        on_stage("hold_out")
        cotangent_B = inner.label_gradient(direction, rates)
        on_stage("label_gradient")
        grads = torch.autograd.grad(label_B, self._phi, cotangent_B, retain_graph=self._level is not None)
        if self._level is not None:
            level = torch.autograd.grad(label_B.mean(), self._phi)
            grads = _without(grads, level)
        for p, g in zip(self._phi, grads, strict=True):
            p.grad = g
        self.optimiser.step()
        norm = torch.linalg.vector_norm(torch.stack([g.norm() for g in grads]))
        on_stage("labels")
        return seen._replace(
            objectives=values_T.detach().tolist(), weights=weights_T.tolist(), gradient_norm=float(norm)
        )

    def _direction(
        self, ahead: Params, held: tuple[DinInputs, Candidates]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Objectives of the recommender after the inner step, their weights, and v = Σ ω_i ∇_θ' M_i."""
        config, values_T, weights_T = self.config, torch.zeros(0), torch.zeros(0)
        mode = config.balance
        if mode == "gradcraft":
            values_T, each = outer_gradients(lambda at: self.measure(at, *held), ahead)
            weights_T = gradient_weights(each, tau=config.tau, disable=self._disabled)
            both = list(zip(weights_T, each, strict=True))
            return (
                values_T,
                weights_T,
                {name: torch.stack([w * g[name] for w, g in both]).sum(0) for name in ahead},
            )

        def total(at: Params) -> Tensor:
            nonlocal values_T, weights_T
            values_T = self.measure(at, *held)
            weights_T = objective_weights(values_T, tau=config.tau, mode=mode, disable=self._disabled)
            return (weights_T * values_T).sum()

        _, direction = outer_gradient(total, ahead)
        return values_T, weights_T, direction

    def _scores(self, params: Params, inputs: DinInputs) -> Tensor:
        """`[U, C]` predictions as the inner loss wants them."""
        z_UC = call(self.recommender, params, *inputs)
        return torch.sigmoid(z_UC) if self.config.loss == "mse" else z_UC


def _without(vector: Sequence[Tensor], direction: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """`vector` without its component along `direction`; both are a tensor for each parameter."""
    dot = sum(float((v * d).sum()) for v, d in zip(vector, direction, strict=True))
    norm = sum(float((d * d).sum()) for d in direction)
    share = dot / norm if norm > 0 else 0.0
    return tuple(v - share * d for v, d in zip(vector, direction, strict=True))


def predict(recommender: DIN, prepared: DinRows, rows: I64, batch: int = 4096) -> F32:
    """`[R]` float32 probabilities of rows of a log, each with its own history."""
    parts = [np.zeros(0, np.float32)]
    with torch.no_grad():
        for start in range(0, len(rows), batch):
            z_B1 = recommender(*prepared.alone(rows[start : start + batch]))
            parts.append(torch.sigmoid(z_B1[:, 0]).numpy())
    return np.concatenate(parts)
