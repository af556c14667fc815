"""Inverse propensity scoring."""

# Shape suffixes: N logged slates, K positions.

from __future__ import annotations

import numpy as np

from models.arrays import F64
from training.off_policy._terms import Terms


def ips(reward_NK: F64, weight_NK: F64) -> Terms:
    """Weigh each reward by how much more often the target policy would have shown it.

        V̂ = 1/N Σ_n Σ_k w_nk r_nk

    Unbiased where the logging policy may show all that the target policy may show.

    Args:
        reward_NK: the reward of each position, 0 beyond the end of a slate.
        weight_NK: of `position_weights`, `cascade_weights` or `pseudo_inverse_weights`.

    Source: Horvitz & Thompson, 1952; Strehl et al., NIPS 2010; by position: Li et al., KDD 2018.
    """
    return Terms(weight_NK * reward_NK, np.ones_like(reward_NK))


def clipped(weight_NK: F64, bound: float) -> F64:
    """Return min(w, bound): less variance, and a value that is too low where rewards are positive.

    Source: Ionides, "Truncated importance sampling", 2008.
    """
    out: F64 = np.minimum(weight_NK, bound)
    return out
