"""Weights of the pseudo-inverse estimator: a slate's reward is the sum of what its positions earn."""

# Shape suffixes: N logged slates, K positions, M candidates, D draws, C pairs of position and candidate.

from __future__ import annotations

from typing import Final

import numpy as np

from models.arrays import F64, I64
from models.errors import BadInput
from training.off_policy._plackett_luce import PlackettLuce

MOST_PAIRS: Final = 300
"""Positions times candidates: the cost of a slate grows with their cube."""
DRAWS: Final = 2000
_SLATES: Final = 64
"""Slates in one go."""


def pseudo_inverse_weights(
    target_NKM: F64, logging: PlackettLuce, order_NK: I64, *, draws: int = DRAWS, seed: int = 0
) -> F64:
    """Weigh slates for rewards that are linear in their positions, with less variance than whole slates need.

        w_n = E_target[1_s]ᵀ Γ⁺ 1_{s_n}        Γ = E_logging[1_s 1_sᵀ]

    where 1_s marks the pairs of position and candidate of slate s. Γ is the mean over `draws` drawn slates.

    Args:
        target_NKM: marginal propensities of the target policy.
        logging: the policy of the log.
        order_NK: the shown candidates by their index; all slates have K of them.
        draws, seed: of Γ.

    Returns:
        `[N, 1]`, the weight of each slate for its total reward.

    Raises:
        BadInput: a slate has more than `MOST_PAIRS` pairs, or a slate is shorter than K.

    Source: Swaminathan et al., "Off-policy evaluation for slate recommendation", NIPS 2017.
    """
    slates, positions, candidates = target_NKM.shape
    pairs = positions * candidates
    if pairs > MOST_PAIRS:
        raise BadInput(
            f"the pseudo-inverse of {positions} positions and {candidates} candidates is too large: "
            f"{pairs} pairs, at most {MOST_PAIRS}; take the position-based or the cascade model."
        )
    if (order_NK < 0).any():
        raise BadInput("the pseudo-inverse needs slates of one length; leave shorter ones out.")
    offset_K = candidates * np.arange(positions)
    out_N1 = np.empty((slates, 1))
    for start in range(0, slates, _SLATES):
        rows = slice(start, start + _SLATES)
        policy = PlackettLuce(logging.score[rows], logging.temperature, logging.epsilon)
        drawn_NDK = policy.sample(positions, draws=draws, seed=seed + start)
        indicator_NDC = np.zeros((*drawn_NDK.shape[:2], pairs))
        np.put_along_axis(indicator_NDC, drawn_NDK + offset_K, 1.0, axis=2)
        second_moment_NCC = np.matmul(indicator_NDC.transpose(0, 2, 1), indicator_NDC) / draws
        inverse_NCC = np.linalg.pinv(second_moment_NCC, rcond=1e-9, hermitian=True)
        shown_NC = np.zeros((len(drawn_NDK), pairs))
        np.put_along_axis(shown_NC, order_NK[rows] + offset_K, 1.0, axis=1)
        target_NC = target_NKM[rows].reshape(-1, pairs)
        out_N1[rows, 0] = np.einsum("nc,ncd,nd->n", target_NC, inverse_NCC, shown_NC)
    return out_N1
