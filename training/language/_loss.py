"""The loss of counterfactual fine-tuning: the targets, and the targets by what the history adds alone."""

# Shape suffixes: N targets, T tokens of a target, Z tokens of the vocabulary.

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def token_weights(tokens: int, last: float) -> Tensor:
    """Return ω `[T]`, from 1 for a target's first token linearly to β for its last.

        ω_t = 1 - (1 - β) (t - 1) / (T - 1)       1 where T = 1

    Later tokens follow from the ones before them more than from the history.

    Args:
        tokens: T.
        last: β.
    """
    return torch.linspace(1.0, last, tokens) if tokens > 1 else torch.ones(1)


def weighted_cross_entropy(logit_NTZ: Tensor, target_NT: Tensor, weight_T: Tensor) -> Tensor:
    """Return Σ ω_t CE(z_t, y_t) / Σ ω_t over the tokens of all targets of a batch, a scalar.

    Equal weights are a plain mean, to the bit.
    """
    if bool((weight_T == 1).all()):
        return F.cross_entropy(logit_NTZ.flatten(0, 1), target_NT.flatten())
    entropy_N = F.cross_entropy(logit_NTZ.flatten(0, 1), target_NT.flatten(), reduction="none")
    weight_N = weight_T.repeat(len(target_NT))
    return (weight_N * entropy_N).sum() / weight_N.sum()


def counterfactual_loss(
    logit_NTZ: Tensor, without_NTZ: Tensor, target_NT: Tensor, weight_T: Tensor, effect_weight: float
) -> Tensor:
    """Return L_n + λ L_c.

        L_n = Σ ω_t CE(z_t, y_t) / Σ ω      L_c = Σ ω_t CE(z_t - z⁰_t, y_t) / Σ ω

    z - z⁰ is the effect of the history on the logits. Both have the gradient.

    Args:
        logit_NTZ: z, with the history.
        without_NTZ: z⁰, of the same weights and target tokens, without it.
        target_NT: y.
        weight_T: ω.
        effect_weight: λ.

    Source: CFT, https://github.com/itsmeyjt/CFT.
    """
    plain = weighted_cross_entropy(logit_NTZ, target_NT, weight_T)
    return plain + effect_weight * weighted_cross_entropy(logit_NTZ - without_NTZ, target_NT, weight_T)
