"""Off-policy evaluation: what another ranking would have earned, from the log of this one.

A log holds slates that were drawn with known probabilities. Weights compare these with the probabilities of
another policy under a model of how users read a slate: `position_weights`, `cascade_weights` or
`pseudo_inverse_weights`. An estimator (`ips`, `snips`, `doubly_robust`, `switch_doubly_robust`) makes terms
of rewards and weights, `estimate` a value with an interval over users, and `Overlap` says if the log can
answer at all:

    >>> import numpy as np
    >>> reward_NK = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    >>> logging_NK, target_NK = np.full((3, 2), 0.5), np.array([[0.75, 0.5], [0.25, 0.5], [0.5, 0.5]])
    >>> round(snips(reward_NK, position_weights(target_NK, logging_NK)).value, 3)
    1.167
"""

from training.off_policy._cascade_weights import cascade_weights
from training.off_policy._doubly_robust import doubly_robust
from training.off_policy._estimate import Estimate, estimate
from training.off_policy._ips import clipped, ips
from training.off_policy._overlap import LEAST_EFFECTIVE_SAMPLE, LEAST_SUPPORT, Overlap, support
from training.off_policy._plackett_luce import PlackettLuce
from training.off_policy._position_weights import position_weights
from training.off_policy._pseudo_inverse_weights import pseudo_inverse_weights
from training.off_policy._reward_model import RewardModel
from training.off_policy._snips import snips
from training.off_policy._switch_doubly_robust import switch_doubly_robust
from training.off_policy._terms import Terms

__all__ = [
    "LEAST_EFFECTIVE_SAMPLE",
    "LEAST_SUPPORT",
    "Estimate",
    "Overlap",
    "PlackettLuce",
    "RewardModel",
    "Terms",
    "cascade_weights",
    "clipped",
    "doubly_robust",
    "estimate",
    "ips",
    "position_weights",
    "pseudo_inverse_weights",
    "snips",
    "support",
    "switch_doubly_robust",
]
