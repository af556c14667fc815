"""The Plackett-Luce policy: slates drawn by score, and how probable each was."""

# Shape suffixes: N slates, K positions, M candidates, D draws.

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from models.arrays import F64, I64

DRAWS: Final = 64
"""Slates drawn for the marginal propensities of one slate."""
_CHUNK: Final = 4_000_000
"""Scores perturbed in one go: 32 MB."""


@dataclass(frozen=True, slots=True)
class PlackettLuce:
    """Draw position after position among the remaining candidates, with a share of uniformly random orders.

        P(v_1 … v_K) = (1 - ε) Π_k exp(s_k / T) / Σ_{j not above k} exp(s_j / T) + ε (M - K)! / M!

    Source: Plackett, 1975; sampling: Kool, van Hoof & Welling, "Stochastic beams", ICML 2019.
    """

    score: F64
    """`[N, M]` scores of the candidates; -∞ where a slate has fewer than M."""
    temperature: float
    epsilon: float = 0.0
    """Share of uniformly random orders."""

    def propensities(self, order_NK: I64) -> F64:
        """Return the probability of each shown video given those above it.

        Args:
            order_NK: candidates by their index, in the order shown; -1 beyond the end of a slate.

        Returns:
            `[N, K]`, 1 beyond the end of a slate. Their product is the probability of the order.
        """
        remaining_NM = self.score / self.temperature
        with np.errstate(divide="ignore"):
            softmax_N, uniform_N = np.log(np.tile([[1 - self.epsilon], [self.epsilon]], len(order_NK)))
        before_N = np.zeros(len(order_NK))  # log probability of the videos above
        out_NK = np.ones(order_NK.shape)
        for k, video_N in enumerate(order_NK.T):
            shown_N = (video_N >= 0).nonzero()[0]
            chosen_N, left_NM = video_N[shown_N], remaining_NM[shown_N]
            softmax_N[shown_N] += left_NM[np.arange(len(shown_N)), chosen_N] - _log_sum_exp(left_NM)
            uniform_N[shown_N] -= np.log(np.isfinite(left_NM).sum(axis=1))
            after_N = np.logaddexp(softmax_N, uniform_N)
            out_NK[shown_N, k] = np.exp(after_N - before_N)[shown_N]
            before_N = after_N
            remaining_NM[shown_N, chosen_N] = -np.inf
        return out_NK

    def marginals(self, positions: int, *, draws: int = DRAWS, seed: int = 0) -> F64:
        """Return how probable each candidate is at each position, whatever stands above it.

        There is no closed form below the first position: the probabilities given the videos above are
        averaged over `draws` drawn slates. Policies with one seed are averaged over the same random numbers.

        Returns:
            `[N, K, M]`; each position sums to 1, and to 0 where no candidate is left.
        """
        slates, candidates = self.score.shape
        random = np.random.default_rng(seed)
        out_NKM = np.empty((slates, positions, candidates))
        chunk = max(1, _CHUNK // (draws * candidates))
        for start in range(0, slates, chunk):
            rows = slice(start, start + chunk)
            logit_NM = self.score[rows] / self.temperature
            order_NDK = _draw(logit_NM, draws, positions, random)
            remaining_NDM = np.repeat(logit_NM[:, None], draws, axis=1)
            for k in range(positions):
                out_NKM[rows, k] = _softmax(remaining_NDM).mean(axis=1)
                np.put_along_axis(remaining_NDM, order_NDK[..., k, None], -np.inf, axis=2)
        known_NM = np.isfinite(self.score)
        count_N1 = known_NM.sum(axis=1, keepdims=True)
        uniform_NKM = (known_NM / count_N1)[:, None] * (np.arange(positions) < count_N1)[..., None]
        out_NKM *= 1 - self.epsilon
        out_NKM += self.epsilon * uniform_NKM
        return out_NKM

    def sample(self, positions: int, *, draws: int, seed: int = 0) -> I64:
        """Draw slates, `[N, D, K]` candidates by their index."""
        random = np.random.default_rng(seed)
        logit_NM = self.score / self.temperature
        order_NDK = _draw(logit_NM, draws, positions, random)
        if self.epsilon == 0:
            return order_NDK
        flat_NM = np.where(np.isfinite(logit_NM), 0.0, -np.inf)
        uniform_ND = random.random(order_NDK.shape[:2]) < self.epsilon
        return np.where(uniform_ND[..., None], _draw(flat_NM, draws, positions, random), order_NDK)


def _draw(logit_NM: F64, draws: int, positions: int, random: np.random.Generator) -> I64:
    """Draw slates by the highest scores after Gumbel noise, `[N, D, K]`."""
    noise_NDM = random.gumbel(size=(len(logit_NM), draws, logit_NM.shape[1]))
    out: I64 = np.argsort(-(logit_NM[:, None] + noise_NDM), axis=2)[..., :positions]
    return out


def _log_sum_exp(logit_NM: F64) -> F64:
    top_N = logit_NM.max(axis=1)
    out: F64 = top_N + np.log(np.exp(logit_NM - top_N[:, None]).sum(axis=1))
    return out


def _softmax(logit: F64) -> F64:
    """Return probabilities over the last axis, all 0 where every logit is -∞."""
    top = np.nan_to_num(logit.max(axis=-1, keepdims=True), neginf=0.0)
    odds = np.exp(logit - top)
    total = odds.sum(axis=-1, keepdims=True)
    out: F64 = np.divide(odds, total, out=odds, where=total > 0)
    return out
