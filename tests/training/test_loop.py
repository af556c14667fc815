"""The loop that fits a ranker: how rows are dealt out, and which parameters are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.train.trainer import _batches, _running_mean


@given(st.lists(st.integers(0, 50), min_size=1, max_size=300), st.integers(1, 40), st.integers(0, 99))
def test_every_row_is_in_one_batch_of_the_one_size(lengths: list[int], steps: int, seed: int) -> None:
    steps = min(steps, len(lengths))
    batches = _batches(np.array(lengths), steps, np.random.default_rng(seed))
    assert len(batches) == steps
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert max(map(len, batches)) - min(map(len, batches)) <= 1


def test_rows_of_a_batch_have_histories_of_like_length() -> None:
    random = np.random.default_rng(0)
    length = random.geometric(0.05, 20_000)
    padded = sum(len(b) * length[b].max() for b in _batches(length, 100, random))
    at_random = np.array_split(random.permutation(len(length)), 100)
    assert padded < 0.5 * sum(len(b) * length[b].max() for b in at_random)


def test_no_two_epochs_have_the_same_batches() -> None:
    random, length = np.random.default_rng(0), np.full(1000, 7)
    first, second = ({frozenset(b.tolist()) for b in _batches(length, 20, random)} for _ in range(2))
    assert not first & second


def test_a_running_mean_follows_at_once_and_then_slowly() -> None:
    update, mean = _running_mean(0.9), torch.zeros(1)
    seen = []
    for n in range(200):
        mean = update(mean, torch.ones(1), n)
        seen.append(float(mean))
    assert seen[0] == pytest.approx(0.9)
    assert seen == sorted(seen)
    moved = float(update(torch.zeros(1), torch.ones(1), 10_000))
    assert moved == pytest.approx(0.1)
    assert float(_running_mean(0.0)(torch.zeros(1), torch.ones(1), 5)) == 1.0
