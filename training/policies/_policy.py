"""Policies: states and candidates -> the probability of each candidate."""

# Shape suffixes: S columns of a state, C candidates.

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.arrays import F64, I64
from training.policies._q_network import QNetwork

Policy = Callable[[Tensor, Tensor], Tensor]
"""`[..., S]` states and `[..., C]` candidates -> `[..., C]` probabilities."""


def one_hot_of_best(score: Tensor) -> Tensor:
    """Return probability 1 for the highest of `[..., C]` scores, the first of equal ones."""
    return F.one_hot(score.argmax(dim=-1), score.shape[-1]).to(score.dtype)


def draw_choices(probability_NC: F64, random: np.random.Generator) -> I64:
    """Draw a candidate for each of N rows, `[N]`; a row's probabilities are shares of its sum."""
    drawn = random.random((len(probability_NC), 1)) * probability_NC.sum(axis=1, keepdims=True)
    column_N = (np.cumsum(probability_NC, axis=1) < drawn).sum(axis=1)
    out: I64 = np.minimum(column_N, probability_NC.shape[1] - 1)
    return out


def greedy(network: QNetwork) -> Policy:
    """Return the policy that shows the video of the highest Q."""
    return lambda state, candidates: one_hot_of_best(network(state, candidates).value)


def imitation(network: QNetwork) -> Policy:
    """Return the log's own policy as the network has learned it: behaviour cloning."""
    return lambda state, candidates: torch.softmax(network(state, candidates).logit, dim=-1)


def mixture(policy: Policy, other: Policy, share: float) -> Policy:
    """Return the policy that follows `other` with the probability `share`."""
    return lambda state, candidates: (
        (1 - share) * policy(state, candidates) + share * other(state, candidates)
    )
