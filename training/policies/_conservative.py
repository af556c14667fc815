"""The conservative loss of CQL: what was never shown must not seem better than what was."""

# Shape suffixes: B steps, C candidates.

from __future__ import annotations

import torch
from torch import Tensor


def conservative_loss(value_BC: Tensor, logged_B: Tensor) -> Tensor:
    """Return the mean of log Σ_C exp Q(s, a) - Q(s, a_t).

    Args:
        value_BC: Q of every candidate.
        logged_B: Q of the shown one.

    Source: Kumar et al., "Conservative Q-learning", NeurIPS 2020, CQL(H).
    """
    return (torch.logsumexp(value_BC, dim=-1) - logged_B).mean()
