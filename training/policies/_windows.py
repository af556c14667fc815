"""Minibatches of consecutive steps, as n-step returns need them."""

# Shape suffixes: N steps of a block, B windows of a minibatch, W = n + 1 steps of a window, C candidates.

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.arrays import F32, I64
from training.policies._config import QLearningConfig
from training.policies._steps import Steps, read_steps


class Windows(NamedTuple):
    """B steps, each with the n that follow it."""

    state: Tensor
    """`[B, W, S]`"""
    candidates: Tensor
    """`[B, W, C]`"""
    action: Tensor
    """`[B, W, 1]`"""
    reward: Tensor
    """`[B, W]`"""
    propensity: Tensor
    """`[B, W]`"""
    discount: Tensor
    """`[B, W]` of what follows each step; 0 at the end of a session."""


def discounts(steps: Steps, config: QLearningConfig) -> F32:
    """Return what the return after each step counts, `[N]`.

    γ within a session, γ·`next_session` from the last step of a session to the user's next one, 0 after a
    user's last step.
    """
    same_session = np.append(steps.session[1:] == steps.session[:-1], False)
    same_user = np.append(steps.user[1:] == steps.user[:-1], False)
    share = np.where(same_session, 1.0, np.where(same_user, config.next_session, 0.0))
    return (config.gamma * share).astype(np.float32)


def windows(steps: Steps, discount_N: F32, n: int, start: I64) -> Windows:
    """Return the windows of n + 1 steps that start at some of the steps. Beyond the end of a block its last
    step repeats."""
    rows = np.minimum(start[:, None] + np.arange(n + 1), len(steps.action) - 1)
    found = steps.take(rows)
    return Windows(
        torch.from_numpy(found.state),
        torch.from_numpy(found.candidates),
        torch.from_numpy(found.action[..., None]),
        torch.from_numpy(found.reward),
        torch.from_numpy(found.propensity),
        torch.from_numpy(discount_N[rows]),
    )


def minibatches(folder: Path, config: QLearningConfig, *, seed: int) -> Iterator[Windows]:
    """Yield shuffled minibatches without end: blocks in random order, and of each block every step once."""
    random = np.random.default_rng(seed)
    while True:
        for steps in read_steps(folder, random):
            discount_N, order = discounts(steps, config), random.permutation(len(steps.action))
            for start in range(0, len(order), config.batch):
                yield windows(steps, discount_N, config.n, order[start : start + config.batch])
