"""The one training loop: steps, evaluation after every epoch, early stopping, and the check for divergence.

Rankers, recommenders and label makers bring a step function; everything around it is here.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from models.arrays import F32, I64
from models.errors import BadInput
from models.metrics import nwtg_at_k
from training.data import Interactions
from training.train.checkpoints import Checkpoint, State, Stateful

M = TypeVar("M", bound=nn.Module)

_BATCHES_SORTED: Final = 24
"""Batches whose rows are sorted by length with each other."""


class StepResult(NamedTuple):
    """What one step measured."""

    losses: Sequence[float]
    weight: float = 1.0
    """Weight of the step in the epoch's means."""


class Evaluation(NamedTuple):
    """What was measured after an epoch."""

    error: float | None
    """Early-stopping criterion, lower is better; `None` keeps the newest epoch."""
    metrics: Mapping[str, Any] = {}
    """Further figures for the learning curve. They decide nothing."""


class EpochResult(NamedTuple):
    """One epoch of a fit."""

    epoch: int
    """Counted from 0."""
    losses: tuple[float, ...]
    """Means over the epoch's steps."""
    error: float | None
    metrics: Mapping[str, Any]
    seconds: float
    """Since `train` was called."""


@dataclass
class TrainerState:
    """Progress of a fit."""

    next_epoch: int = 0
    best_epoch: int = -1
    best_error: float = float("inf")
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    epochs: list[EpochResult] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """What the epochs took."""
        return self.epochs[-1].seconds if self.epochs else 0.0

    def state_dict(self) -> State:
        """Return the members, epochs as tuples."""
        return vars(self) | {"epochs": [tuple(epoch) for epoch in self.epochs]}

    def load_state_dict(self, state_dict: State, /) -> None:
        """Continue from what `state_dict` returned."""
        vars(self).update(state_dict, epochs=[EpochResult(*epoch) for epoch in state_dict["epochs"]])


def train(
    model: M,
    batches: Callable[[], Sequence[I64]],
    step: Callable[[I64], StepResult],
    evaluate: Callable[[M], Evaluation] | None,
    *,
    epochs: int,
    rates: str,
    patience: int = 1,
    min_gain: float = 0.0,
    max_seconds: float | None = None,
    average: float | None = None,
    on_step: Callable[[float], None] = lambda _: None,
    on_epoch: Callable[[EpochResult], None] = lambda _: None,
    state: TrainerState | None = None,
    checkpoint: Checkpoint | None = None,
    stateful: Sequence[Stateful] = (),
) -> TrainerState:
    """Fit `model` in place and leave it in evaluation mode with the weights of its best epoch.

    Args:
        model: everything that `step` updates.
        batches: returns the batches of one epoch, called once per epoch.
        step: makes one optimiser step on a batch.
        evaluate: called with the weights after each epoch; `None` keeps the last epoch.
        epochs: at most this many.
        rates: the learning rates in words, for the message of a fit that diverged.
        patience: epochs without a lower error before stopping.
        min_gain: by how much an error must be lower to count.
        max_seconds: stop after the epoch in which this much time has passed.
        average: α of a running mean of the weights, which is then what is evaluated and kept; `None` keeps
            the weights themselves. Steps are noisy on small logs.
        on_step: called with the share of the work that is done.
        on_epoch: called after each epoch.
        state: continue from here; updated in place.
        checkpoint: written after each epoch. If there is one, the fit continues from it as if it had not
            stopped.
        stateful: what changes with the steps besides `model` and PyTorch's random numbers, such as the
            optimiser and the generator of `batches`.

    Returns:
        The state after the last epoch.

    Raises:
        BadInput: the fit diverged.
    """
    checkpoint, state = checkpoint or Checkpoint(), state or TrainerState()
    mean = None if average is None else AveragedModel(model, avg_fn=_running_mean(average))
    evaluated = model if mean is None else cast(M, mean.module)
    everything: list[Stateful] = [state, model, *([] if mean is None else [mean]), *stateful]
    saved = checkpoint.read()
    if saved is not None:
        for part, of_part in zip(everything, saved["parts"], strict=True):
            part.load_state_dict(of_part)
        torch.set_rng_state(saved["random"])
    began = time.monotonic() - state.seconds
    while (
        state.next_epoch < epochs
        and state.next_epoch - 1 - state.best_epoch < patience
        and (max_seconds is None or state.seconds < max_seconds)
    ):
        epoch = state.next_epoch
        model.train()
        results: list[StepResult] = []
        picks = batches()
        for i, pick in enumerate(picks):
            results.append(step(pick))
            if mean is not None:
                mean.update_parameters(model)
            on_step((epoch * len(picks) + i + 1) / (epochs * len(picks)))
        losses = np.average([r.losses for r in results], axis=0, weights=[r.weight for r in results])
        _refuse_divergence(model, losses.tolist(), epoch, rates)
        found = Evaluation(None) if evaluate is None else evaluate(evaluated)
        result = EpochResult(epoch, tuple(losses.tolist()), *found, time.monotonic() - began)
        state.epochs.append(result)
        better = found.error is None or found.error < state.best_error - min_gain
        if better or not state.best_weights:
            state.best_error = state.best_error if found.error is None else found.error
            state.best_epoch, state.best_weights = epoch, copy.deepcopy(evaluated.state_dict())
        state.next_epoch += 1
        checkpoint.write(
            {"parts": [part.state_dict() for part in everything], "random": torch.get_rng_state()}
        )
        on_epoch(result)
    model.load_state_dict(state.best_weights)
    model.eval()
    on_step(1.0)
    return state


def _refuse_divergence(model: nn.Module, losses: Sequence[float], epoch: int, rates: str) -> None:
    """Losses are measured before each step: what the last one did shows in the squares of the weights."""
    finite = all(bool(p.detach().square().sum().isfinite()) for p in model.parameters())
    if not (finite and np.isfinite(losses).all()):
        raise BadInput(
            f"the fit diverged in epoch {epoch} at {rates}; lower the rates or raise the batch size."
        )


def _running_mean(average: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """mean ← mean + (1 - a) (weights - mean), a = min(average, (1 + n) / (10 + n)) after n steps, so that a
    short fit does not keep its first steps."""

    def update(mean: Tensor, weights: Tensor, steps: Tensor | int) -> Tensor:
        n = float(steps)
        return mean.lerp(weights, 1 - min(average, (1 + n) / (10 + n)))

    return update


def batches_by_length(length_R: I64, batch_size: int, random: np.random.Generator) -> list[I64]:
    """Cut `[R]` rows into batches in random order, each of rows with sequences of like length.

    A batch is as long as its longest sequence. Rows are shuffled, sorted by length a few batches at a time,
    and the batches shuffled: half the work on a log of mostly short sequences, and no two epochs have the
    same batches.

    Args:
        length_R: steps of each row's sequence.
        batch_size: rows of a batch; one may have fewer.
        random: shuffles.
    """
    rows = len(length_R)
    runs = max(1, rows // batch_size // _BATCHES_SORTED)
    parts = np.array_split(random.permutation(rows), runs)
    sorted_R = np.concatenate([part[np.argsort(length_R[part], kind="stable")] for part in parts])
    batches = np.array_split(sorted_R, range(batch_size, rows, batch_size))
    return [batches[i] for i in random.permutation(len(batches))]


def early_stop_nwtg(log: Interactions, rows: I64, score_R: F32, k: int) -> float:
    """Return the user-weighted NWTG@k of early-stop rows.

    Raises:
        BadInput: no user has more than k of these rows.
    """
    metric = nwtg_at_k(log.user[rows], score_R, log.watch_time_s[rows], k).weighted_mean
    if metric is None:
        raise BadInput(
            f"no user has more than k = {k} of the {len(rows)} early-stop exposures, so there is nothing "
            "to stop by; widen its days or lower k."
        )
    return metric
