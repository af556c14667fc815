"""The trainer: batches, early stopping, the running mean, and fits that diverge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from models.arrays import I64
from models.errors import BadInput
from training.train.trainer import (
    Evaluation,
    StepResult,
    TrainerState,
    _running_mean,
    batches_by_length,
    train,
)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=300), st.integers(1, 40), st.integers(0, 99))
def test_every_row_is_in_one_batch(lengths: list[int], batch_size: int, seed: int) -> None:
    batches = batches_by_length(np.array(lengths), batch_size, np.random.default_rng(seed))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    sizes = sorted(map(len, batches))
    assert sizes[-1] <= batch_size
    assert len(batches) == -(-len(lengths) // batch_size)
    assert all(size == batch_size for size in sizes[1:])


def test_rows_of_a_batch_have_sequences_of_like_length() -> None:
    random = np.random.default_rng(0)
    length = random.geometric(0.05, 20_000)
    padded = sum(len(b) * length[b].max() for b in batches_by_length(length, 200, random))
    at_random = np.array_split(random.permutation(len(length)), 100)
    assert padded < 0.5 * sum(len(b) * length[b].max() for b in at_random)


def test_no_two_epochs_have_the_same_batches() -> None:
    random, length = np.random.default_rng(0), np.full(1000, 7)
    first, second = ({frozenset(b.tolist()) for b in batches_by_length(length, 50, random)} for _ in range(2))
    assert not first & second


def test_a_running_mean_follows_at_once_and_then_slowly() -> None:
    update, mean = _running_mean(0.9), torch.zeros(1)
    means = []
    for n in range(200):
        mean = update(mean, torch.ones(1), n)
        means.append(float(mean))
    assert means[0] == pytest.approx(0.9)
    assert means == sorted(means)
    moved = float(update(torch.zeros(1), torch.ones(1), 10_000))
    assert moved == pytest.approx(0.1)
    assert float(_running_mean(0.0)(torch.zeros(1), torch.ones(1), 5)) == 1.0


class Counter(nn.Module):
    """Its one weight counts the steps."""

    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    @torch.no_grad()
    def step(self, pick: I64) -> StepResult:
        self.weight += 1
        return StepResult((float(len(pick)),), weight=float(len(pick)))


BATCHES = [np.arange(3), np.arange(1)]


@pytest.mark.parametrize(
    ("errors", "patience", "min_gain", "epochs", "best"),
    [
        ([5.0, 4.0, 3.0, 2.0], 1, 0.0, 4, 3),
        ([5.0, 4.0, 4.5, 3.0], 1, 0.0, 3, 1),
        ([5.0, 4.0, 4.5, 3.0], 2, 0.0, 4, 3),
        ([5.0, 4.9, 4.8, 3.0], 2, 0.5, 3, 0),
        ([None, None, None, None], 1, 0.0, 4, 3),
    ],
)
def test_the_weights_of_the_best_epoch_are_kept(
    errors: list[float | None], patience: int, min_gain: float, epochs: int, best: int
) -> None:
    model, left = Counter(), iter(errors)
    state = train(
        model,
        lambda: BATCHES,
        model.step,
        lambda _: Evaluation(next(left)),
        epochs=4,
        rates="",
        patience=patience,
        min_gain=min_gain,
    )
    assert len(state.epochs) == epochs
    assert state.best_epoch == best
    assert float(model.weight.detach()) == 2 * (best + 1)
    assert not model.training
    assert state.epochs[0].losses == ((3 * 3 + 1) / 4,)


def test_a_state_continues_where_it_stopped() -> None:
    model, state = Counter(), TrainerState()
    for epochs in (1, 3):
        train(model, lambda: BATCHES, model.step, None, epochs=epochs, rates="", state=state)
    assert [epoch.epoch for epoch in state.epochs] == [0, 1, 2]
    assert float(model.weight.detach()) == 6


@pytest.mark.parametrize(("weight", "loss"), [(float("nan"), 1.0), (1e30, 1.0), (1.0, float("inf"))])
def test_a_fit_that_diverged_is_one_line(weight: float, loss: float) -> None:
    model = Counter()

    def step(pick: I64) -> StepResult:
        model.weight.data.fill_(weight)
        return StepResult((loss,))

    with pytest.raises(BadInput, match=r"diverged in epoch 0 at lr = 1; lower the rates"):
        train(model, lambda: BATCHES, step, None, epochs=2, rates="lr = 1")
