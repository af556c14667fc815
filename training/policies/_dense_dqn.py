"""Double DQN as SASRec4SV tried it: one output for every video of the catalogue."""

# Shape suffixes: B steps, S columns of a state, V videos.

from __future__ import annotations

import copy
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from models.errors import BadInput
from training.policies._config import QLearningConfig
from training.policies._policy import Policy, one_hot_of_best
from training.policies._steps import read_steps
from training.policies._windows import minibatches

HIDDEN: Final = 50
MOST_BYTES: Final = 2 * 2**30
"""What the last layer may take."""
_COPIES: Final = 4
"""Weights, their gradient, and two moments of Adam, four bytes each."""
_BATCH: Final = 32
_SYNC: Final = 100
_RATE: Final = 1e-3
_EPSILON: Final = 1e-2
UPDATES: Final = 2000


def dense_head_bytes(videos: int, hidden: int = HIDDEN) -> int:
    """Return what a layer with an output for every video takes: V (H + 1) · 4 · 4 bytes."""
    return videos * (hidden + 1) * 4 * _COPIES


def dense_network(states: int, videos: int, *, most_bytes: int = MOST_BYTES) -> nn.Sequential:
    """Return S → 50 → 50 → V.

    Raises:
        BadInput: the last layer would take more than `most_bytes`. Nothing has been allocated by then.
    """
    needed = dense_head_bytes(videos)
    if needed > most_bytes:
        raise BadInput(
            f"a dense layer over {videos:,} videos takes {needed:,} bytes (weights, gradient and two moments "
            f"of Adam), at most {most_bytes:,} are allowed; take `fit_q`, which scores candidates alone."
        )
    return nn.Sequential(
        nn.Linear(states, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, videos)
    )


def fit_dense_dqn(
    folder: Path, videos: int, config: QLearningConfig, *, updates: int = UPDATES, seed: int = 0
) -> Policy:
    """Learn Q(s, ·) of the whole catalogue from logged steps, and return the policy that is greedy by it.

    The best next video is sought among all videos, also those that could not be shown: as in the original,
    whose values are too high for videos that the log hardly knows.

    Args:
        folder: of `write_steps`.
        videos: V.
        config: discounts; everything else is the original's.
        updates: minibatches.
        seed: of weights and minibatches.

    Raises:
        BadInput: the last layer is too large.

    Source: SASRec4SV's notebook; double DQN: van Hasselt, Guez & Silver, AAAI 2016. Deviations: from a log,
    where the original asks a simulator that its own model is the reward of; any state, where the original
    averages the last videos.
    """
    states = next(read_steps(folder)).state.shape[1]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = dense_network(states, videos)
    target = copy.deepcopy(network)
    optimiser = torch.optim.Adam(network.parameters(), lr=_RATE, eps=_EPSILON)
    one_step = config.model_copy(update={"n": 1, "batch": _BATCH})
    for update, window in zip(range(updates), minibatches(folder, one_step, seed=seed), strict=False):
        if update % _SYNC == 0:
            target.load_state_dict(network.state_dict())
        with torch.no_grad():
            best_B1 = network(window.state[:, 1]).argmax(dim=-1, keepdim=True)
            next_B = target(window.state[:, 1]).gather(-1, best_B1)[:, 0]
        video_B1 = window.candidates[:, 0].gather(-1, window.action[:, 0])
        logged_B = network(window.state[:, 0]).gather(-1, video_B1)[:, 0]
        target_B = window.reward[:, 0] + window.discount[:, 0] * next_B
        loss = nn.functional.smooth_l1_loss(logged_B, target_B)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    def policy(state: Tensor, candidates: Tensor) -> Tensor:
        value: Tensor = network(state)
        return one_hot_of_best(value.gather(-1, candidates))

    return policy
