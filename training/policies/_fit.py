"""Q-learning from logged steps."""

# Shape suffixes: N steps of a block, B windows, W = n + 1 steps, C candidates.

from __future__ import annotations

import copy
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.arrays import F32, F64
from models.errors import BadInput
from training.policies._config import QLearningConfig
from training.policies._conservative import conservative_loss
from training.policies._policy import Policy, one_hot_of_best
from training.policies._q_network import QNetwork, Scores
from training.policies._retrace import retrace
from training.policies._self_supervised import self_supervised_loss
from training.policies._steps import Steps, read_steps
from training.policies._windows import Windows, discounts, minibatches


def fit_q(
    folder: Path, vectors: F32, config: QLearningConfig, *, policy: Policy | None = None, seed: int = 0
) -> QNetwork:
    """Learn Q(s, a) from logged steps.

        L = (Q(s, a) - G)² / scale² + α (conservative loss) + β (self-supervised loss)

    G: see `retrace`. The target network is a running average of the network, and what is returned.

    Args:
        folder: of `write_steps`; blocks are read one at a time.
        vectors: `[V, E]` of the videos; may be a memory map.
        config: returns, losses and the loop.
        policy: whose Q is learned; `None` learns that of the best policy.
        seed: of weights and minibatches.

    Raises:
        BadInput: the log has no propensities, which returns of several steps need, and the self-supervised
            loss is off, which would estimate them.

    Source: double Q-learning: van Hasselt, Guez & Silver, AAAI 2016; the losses: see their files.
    """
    first = next(read_steps(folder))
    reads_propensities = config.gamma > 0 and config.n > 1 and config.importance_limit > 0
    if reads_propensities and config.self_supervised == 0 and np.isnan(first.propensity).any():
        raise BadInput(
            "the log has no propensities, which returns of several steps need; set `self_supervised` above 0 "
            "to estimate them, or `n` to 1."
        )
    earned_N = returns(first, config)
    typical = float(np.abs(earned_N).mean()) or 1.0
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = QNetwork(
            first.state.shape[1], torch.from_numpy(vectors), hidden=config.hidden, scale=typical
        )
    # From 0, values would still rise for many updates; the log's mean return is near to any policy's.
    network.out.bias.data[0] = float(earned_N.mean()) / typical
    target = copy.deepcopy(network, {id(network.vectors): network.vectors})
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    decay = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, config.updates)
    for _, window in zip(range(config.updates), minibatches(folder, config, seed=seed), strict=False):
        target_B = _targets(network, target, window, config, policy)
        first_scores = network(window.state[:, 0], window.candidates[:, 0])
        loss = _loss(first_scores, window.action[:, 0], target_B, typical, config)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        decay.step()
        with torch.no_grad():
            for old, new in zip(target.parameters(), network.parameters(), strict=True):
                old.lerp_(new, 1 - config.average)
    return target.eval()


def returns(steps: Steps, config: QLearningConfig) -> F64:
    """Return what the log itself earned from each step on, discounted, `[N]`."""
    discount_N = discounts(steps, config)
    out_N = np.empty(len(discount_N))
    later = 0.0
    for row in range(len(out_N) - 1, -1, -1):
        later = float(steps.reward[row]) + float(discount_N[row]) * later
        out_N[row] = later
    return out_N


class _Later(NamedTuple):
    """Of every step of the windows, `[B, W]`."""

    value: Tensor
    logged: Tensor
    ratio: Tensor


@torch.no_grad()
def _targets(
    network: QNetwork, target: QNetwork, window: Windows, config: QLearningConfig, policy: Policy | None
) -> Tensor:
    """`[B]`"""
    if config.gamma == 0:
        return window.reward[:, 0]
    # The first step of a window is regressed on, the others are what its target is made of.
    state, candidates = window.state[:, 1:], window.candidates[:, 1:]
    action = window.action[:, 1:]
    found = target(state, candidates)
    if policy is not None:
        probability = policy(state, candidates)
    else:
        choosing = network(state, candidates).value if config.double else found.value
        probability = one_hot_of_best(choosing)
    learned = torch.softmax(found.logit, dim=-1).gather(-1, action)[..., 0]
    propensity = torch.where(window.propensity[:, 1:].isnan(), learned, window.propensity[:, 1:])
    ratio = probability.gather(-1, action)[..., 0] / propensity.clamp(min=1e-6)
    later = _Later((probability * found.value).sum(-1), found.value.gather(-1, action)[..., 0], ratio)
    padded = _Later(*(torch.nn.functional.pad(x, (1, 0)) for x in later))
    return retrace(
        window.reward, window.discount, padded.value, padded.logged, padded.ratio, config.importance_limit
    )


def _loss(
    scores: Scores, action_B1: Tensor, target_B: Tensor, scale: float, config: QLearningConfig
) -> Tensor:
    logged_B = scores.value.gather(-1, action_B1)[:, 0]
    loss = ((logged_B - target_B) / scale).square().mean()
    if config.conservative:
        loss = loss + config.conservative * conservative_loss(scores.value / scale, logged_B / scale)
    if config.self_supervised:
        loss = loss + config.self_supervised * self_supervised_loss(scores.logit, action_B1[:, 0])
    return loss
