"""Weights of the position-based model: a reward depends on the video and its position alone."""

# Shape suffixes: N logged slates, K positions.

from __future__ import annotations

import numpy as np

from models.arrays import F64


def position_weights(target_NK: F64, logging_NK: F64) -> F64:
    """Return how much more often the target policy shows the video at its position.

        w_nk = P_target(v_k at k) / P_logging(v_k at k)

    Args:
        target_NK, logging_NK: marginal propensities of the shown videos, such as those of
            `PlackettLuce.marginals`; 1 beyond the end of a slate.

    Source: Li et al., "Offline evaluation of ranking policies with click models", KDD 2018.
    """
    out: F64 = np.divide(target_NK, logging_NK)
    return out
