"""Doubly robust estimation."""

# Shape suffixes: N logged slates, K positions.

from __future__ import annotations

import numpy as np

from models.arrays import F64
from training.off_policy._terms import Terms


def doubly_robust(reward_NK: F64, weight_NK: F64, predicted_NK: F64, expected_NK: F64) -> Terms:
    """Predict the value by a model of rewards, and weigh only what the model leaves unexplained.

        V̂ = 1/N Σ_n Σ_k (E_target[q̂_nk] + w_nk (r_nk - q̂_nk))

    Unbiased if the weights or the model is. With q̂ = 0 it is `ips`, and with a perfect model only the noise
    of the rewards is weighed.

    Args:
        reward_NK: the reward of each position, 0 beyond the end of a slate.
        weight_NK: of `position_weights`, `cascade_weights` or `pseudo_inverse_weights`.
        predicted_NK: q̂ of the shown videos, of a model that has not seen the slate's user.
        expected_NK: the mean of q̂ over what the target policy would show at the position.

    Source: Dudík, Langford & Li, ICML 2011.
    """
    return Terms(expected_NK + weight_NK * (reward_NK - predicted_NK), np.ones_like(reward_NK))
