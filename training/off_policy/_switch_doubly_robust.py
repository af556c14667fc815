"""Doubly robust estimation that leaves large weights to the model."""

# Shape suffixes: N logged slates, K positions.

from __future__ import annotations

import numpy as np

from models.arrays import F64
from training.off_policy._doubly_robust import doubly_robust
from training.off_policy._terms import Terms


def switch_doubly_robust(
    reward_NK: F64, weight_NK: F64, predicted_NK: F64, expected_NK: F64, bound: float
) -> Terms:
    """Correct the model's prediction only where the weight is at most `bound`.

        V̂ = 1/N Σ_n Σ_k (E_target[q̂_nk] + 1[w_nk ≤ λ] w_nk (r_nk - q̂_nk))

    λ = 0 trusts the model alone, λ = ∞ is `doubly_robust`.

    Args:
        reward_NK, weight_NK, predicted_NK, expected_NK: as in `doubly_robust`.
        bound: λ.

    Source: Wang, Agarwal & Dudík, ICML 2017.
    """
    bounded_NK = np.where(weight_NK <= bound, weight_NK, 0.0)
    return doubly_robust(reward_NK, bounded_NK, predicted_NK, expected_NK)
