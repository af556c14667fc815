"""The self-supervised loss of SQN: the same layers also say which candidate was shown."""

# Shape suffixes: B steps, C candidates.

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def self_supervised_loss(logit_BC: Tensor, action_B: Tensor) -> Tensor:
    """Return the cross-entropy of the shown video among the candidates.

    It ties the layers to what users were shown where rewards are too rare to do so, and its softmax is a
    model of the log's policy.

    Args:
        logit_BC: of every candidate.
        action_B: which of them was shown.

    Source: Xin et al., "Self-supervised reinforcement learning for recommender systems", SIGIR 2020.
    Deviation: over candidates, not over the catalogue.
    """
    return F.cross_entropy(logit_BC, action_B)
