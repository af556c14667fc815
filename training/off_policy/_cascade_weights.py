"""Weights of the cascade model: a reward depends on the video and on those above it."""

# Shape suffixes: N logged slates, K positions.

from __future__ import annotations

import numpy as np

from models.arrays import F64


def cascade_weights(target_NK: F64, logging_NK: F64) -> F64:
    """Return how much more often the target policy shows the slate down to each position.

        w_nk = Π_{j ≤ k} P_target(v_j | v_1 … v_{j-1}) / P_logging(v_j | v_1 … v_{j-1})

    Args:
        target_NK, logging_NK: propensities of the shown videos given those above them, such as those of
            `PlackettLuce.propensities`; 1 beyond the end of a slate.

    Source: McInerney et al., "Counterfactual evaluation of slate recommendations with sequential reward
    interactions", KDD 2020.
    """
    return np.cumprod(target_NK / logging_NK, axis=1, dtype=np.float64)
