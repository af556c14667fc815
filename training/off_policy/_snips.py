"""Self-normalised inverse propensity scoring."""

# Shape suffixes: N logged slates, K positions.

from __future__ import annotations

from models.arrays import F64
from training.off_policy._terms import Terms


def snips(reward_NK: F64, weight_NK: F64) -> Terms:
    """Divide the weighted rewards of each position by its weights instead of by the number of slates.

        V̂ = Σ_k (Σ_n w_nk r_nk / Σ_n w_nk)

    The value stays within the range of the rewards, and of the logging policy itself it is exactly the mean.
    The bias vanishes as the log grows.

    Args:
        reward_NK: the reward of each position, 0 beyond the end of a slate.
        weight_NK: of `position_weights`, `cascade_weights` or `pseudo_inverse_weights`.

    Source: Swaminathan & Joachims, NIPS 2015.
    """
    return Terms(weight_NK * reward_NK, weight_NK)
