"""Exploration: slates drawn by score instead of sorted, with exact propensities for estimates from logs.

With probability 1 - ε an order is drawn from Plackett-Luce, and with ε it is uniformly random:

    P(v_1 … v_K) = (1 - ε) Π_k exp(s_k / T) / Σ_{j ∈ E_k} exp(s_j / T) + ε Π_k 1 / |E_k|

E_k are the candidates that could be k-th: not above, and neither their author nor their tag has as many as
`max_per_author` and `max_per_tag` allow. Drawing is by Gumbel-top-k (Kool et al., "Stochastic beams and where
to find them", 2019): perturbed logits, sorted. To pass over a candidate whose author has enough leaves the
probabilities of the others in proportion (Luce's choice axiom), so limits apply to the drawn order.

Shape suffixes: M candidates, K of them that were chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

import numpy as np

from models.arrays import F64
from service.pipeline.rules import Indices
from service.slate_rules import Explore

RANK_GAP: Final = 1e6
"""Difference of logits that no noise makes up for: temperature 0 keeps the order of the scores."""


@dataclass(frozen=True, slots=True)
class Explored:
    """How a slate was drawn."""

    explore: Explore
    propensity: F64
    """`[K]`: the probability of each video of the arrangement given those above it; 1 of a pinned one. Their
    product is the probability of the order."""
    loss: float
    """Share of the discounted score that was given up for it."""


def logits(values_M: F64, temperature: float) -> F64:
    """Return the logits of Plackett-Luce: `values / temperature`; at 0 their order, with certainty."""
    if temperature > 0:
        return values_M / temperature
    out = np.empty(len(values_M))
    out[np.argsort(-values_M, kind="stable")] = -RANK_GAP * np.arange(len(values_M))
    return out


def drawn_order(logit_M: F64, indices_M: Indices, count: int, epsilon: float, seed: str) -> Indices:
    """Draw an order.

    Args:
        logit_M: of candidates.
        indices_M: of the same candidates among all of the request.
        count: of all candidates: each has its own noise, whichever others are left out.
        epsilon: share of uniformly random orders.
        seed: the same seed, the same order.

    Returns:
        Positions in `logit_M`, first to last.
    """
    key = int.from_bytes(blake2b(seed.encode(), digest_size=16).digest())
    random = np.random.Generator(np.random.Philox(key=key))
    is_uniform = random.random() < epsilon
    noise = random.gumbel(size=count)[indices_M]
    return np.argsort(-noise if is_uniform else -(logit_M + noise), kind="stable")


def propensities(logit_M: F64, rounds_M: Indices, chosen_K: Indices, epsilon: float) -> F64:
    """Return the probability of each choice given those before it, `[K]`.

    Args:
        logit_M: of the candidates in the drawn order.
        rounds_M: of how many of the choices each could have been the result, see `rules.possible_rounds`.
        chosen_K: positions in that order of those that were chosen, ascending.
        epsilon: share of uniformly random orders.
    """
    shortest = np.argsort(rounds_M, kind="stable")
    log_sum_M = np.logaddexp.accumulate(logit_M[shortest[::-1]])
    choices = np.arange(len(chosen_K))
    possible_K = len(rounds_M) - np.searchsorted(rounds_M[shortest], choices, side="right")
    with np.errstate(divide="ignore"):
        by_score = np.log(1 - epsilon) + np.cumsum(logit_M[chosen_K] - log_sum_M[possible_K - 1])
        uniform = np.log(epsilon) - np.cumsum(np.log(possible_K))
    out: F64 = np.exp(np.minimum(np.diff(np.logaddexp(by_score, uniform), prepend=0.0), 0.0))
    return out


def discounted_loss(score_M: F64, best_M: Indices, drawn_M: Indices, length: int | None) -> float:
    """Return which share of the score, discounted by 1 / log2(1 + position), an order gives up.

    Args:
        score_M: of candidates.
        best_M: the order without exploration.
        drawn_M: the order with it.
        length: positions that count; `None`: all.
    """
    best, drawn = best_M[:length], drawn_M[:length]
    discount = 1 / np.log2(np.arange(2, len(best) + 2))
    most = float(score_M[best] @ discount)
    return 1 - float(score_M[drawn] @ discount) / most if most > 0 else 0.0
