"""Doubly robust estimation of a policy's return over sessions."""

# Shape suffixes: N steps, C candidates, P episodes, T steps of the longest episode.

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import torch

from models.arrays import F32, F64, I64
from training.off_policy import Overlap, Terms, support
from training.policies._config import QLearningConfig
from training.policies._policy import Policy
from training.policies._q_network import QNetwork
from training.policies._steps import Steps
from training.policies._windows import discounts

LIMIT: Final = 20.0
"""Largest weight of a step's correction."""


class ReturnEstimate(NamedTuple):
    """The return of a policy from the start of each episode of a log."""

    fitted: Terms
    """By the model alone, `[P, 1]`."""
    doubly_robust: Terms
    """`[P, 1]`"""
    user: I64
    """`[P]`"""
    overlap: Overlap


@torch.no_grad()
def doubly_robust_return(
    steps: Steps,
    network: QNetwork,
    policy: Policy,
    logging: Policy | None,
    config: QLearningConfig,
    *,
    limit: float = LIMIT,
) -> ReturnEstimate:
    """Predict returns by a model, and add what it did not expect, as far as the policy would have met it.

        V = V̂(s_0) + Σ_t (Π_{k<t} d_k) min(λ, Π_{k≤t} π / μ) (r_t + d_t V̂(s_{t+1}) - Q̂(s_t, a_t))

    An episode is a session, or with `next_session` all of a user's. With no bound λ it is unbiased if the
    propensities are true, or the model is; with λ the part of the largest weights is left to the model.

    Args:
        steps: of users that the model was not fitted on.
        network: of `fitted_q_evaluation`.
        policy: whose value is wanted.
        logging: the log's policy where propensities are unknown, such as an `imitation` of it.
        config: its discounts.
        limit: λ.

    Source: Jiang & Li, "Doubly robust off-policy value evaluation", ICML 2016; bound: Thomas & Brunskill,
    ICML 2016, which blend instead.
    """
    state, candidates = torch.from_numpy(steps.state), torch.from_numpy(steps.candidates)
    q_NC = network(state, candidates).value.numpy().astype(np.float64)
    target_NC = policy(state, candidates).numpy().astype(np.float64)
    shown = (np.arange(len(q_NC)), steps.action)
    propensity_N = steps.propensity.astype(np.float64)
    logging_NC = np.full_like(target_NC, np.nan)
    if logging is not None:
        logging_NC = logging(state, candidates).numpy().astype(np.float64)
        propensity_N = np.where(np.isnan(propensity_N), logging_NC[shown], propensity_N)
    discount_N = discounts(steps, config).astype(np.float64)
    value_N = (target_NC * q_NC).sum(axis=1)
    error_N = steps.reward + discount_N * np.append(value_N[1:], 0.0) - q_NC[shown]
    error_PT = _by_episode(error_N, discount_N, 0.0)
    weight_PT = np.cumprod(_by_episode(target_NC[shown] / propensity_N, discount_N, 1.0), axis=1)
    discount_PT = _by_episode(discount_N, discount_N, 0.0)
    since_PT = np.cumprod(np.pad(discount_PT[:, :-1], ((0, 0), (1, 0)), constant_values=1.0), axis=1)
    starts = np.flatnonzero(np.append(True, discount_N[:-1] == 0))
    clipped_PT = np.minimum(weight_PT, limit)
    fitted_P1 = value_N[starts, None]
    corrected_P1 = fitted_P1 + (since_PT * clipped_PT * error_PT).sum(axis=1, keepdims=True)
    ones_P1 = np.ones_like(fitted_P1)
    seen = 1.0 if logging is None else support(target_NC[:, None], logging_NC[:, None], floor=0.01)
    return ReturnEstimate(
        Terms(fitted_P1, ones_P1),
        Terms(corrected_P1, ones_P1),
        steps.user[starts],
        Overlap.of_weights(clipped_PT[:, -1:], seen),
    )


def _by_episode(column_N: F64 | F32, discount_N: F64, fill: float) -> F64:
    """Return `[P, T]`, padded on the right."""
    starts = np.append(True, discount_N[:-1] == 0)
    episode_N = np.cumsum(starts) - 1
    at_N = np.arange(len(column_N)) - np.flatnonzero(starts)[episode_N]
    out_PT = np.full((episode_N[-1] + 1, at_N.max() + 1), fill)
    out_PT[episode_N, at_N] = column_N
    return out_PT
