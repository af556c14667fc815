"""Paired bootstrap: whether one row of a table is better than another beyond the luck of its users."""

# Shape suffixes: M rows of the table, U users, R resamples.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from models.arrays import F64, I64

RESAMPLES: Final = 2000
_CHUNK: Final = 4_000_000
"""Users drawn in one go: 32 MB."""


class Measure(NamedTuple):
    """A figure as a weighted mean of per-user values."""

    values: str
    """Which of the per-user values."""
    weight: F64
    """`[U]` how much each user counts; 0 leaves a user out."""


@dataclass(frozen=True, slots=True)
class Paired:
    """The lead of one method over another on the same users."""

    difference: float
    """Weighted mean of the users' differences; positive: the first is better."""
    p_value: float
    """Two-sided: how rarely resampled users turn the sign round. At least 2 / (resamples + 1)."""
    ci: tuple[float, float]
    """The middle 95 % of the resampled differences."""


def paired_bootstrap(
    difference_MU: F64, weight_U: F64, *, resamples: int = RESAMPLES, seed: int = 0
) -> list[Paired | None]:
    """Resample the users with replacement and test the mean difference.

        Δ = Σ_u n_u δ_u / Σ_u n_u       p = min(1, 2 min(P(Δ* ≤ 0), P(Δ* ≥ 0)))

    Every row sees the same draws. A resample counts itself once (+1 above and below), so that p is never 0.

    Args:
        difference_MU: what each user gains, a line for each comparison.
        weight_U: n_u, 0 or more: exposures for a mean over exposures, ones for a mean over users, 0 for a
            user who is left out.
        resamples: how often.
        seed: decides the draws.

    Returns:
        One result a line; `None` for all where no user has any weight.

    Source: Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 16.
    """
    users = len(weight_U)
    if difference_MU.shape[1:] != (users,):
        raise ValueError(f"`difference_MU` must be [M, {users}], found {difference_MU.shape}.")
    if not weight_U.sum() > 0:
        return [None] * len(difference_MU)
    total_UM = (weight_U * difference_MU).T
    drawn_RM = np.concatenate(
        [
            _mean(counts_RU, total_UM, weight_U)
            for counts_RU in draws(users, resamples, np.random.default_rng(seed))
        ]
    )
    # A resample without any weight has no mean.
    drawn_RM = drawn_RM[np.isfinite(drawn_RM).all(axis=1)]
    mean_M = total_UM.sum(axis=0) / weight_U.sum()
    results: list[Paired | None] = []
    for mean, drawn_R in zip(mean_M, drawn_RM.T, strict=True):
        tail = 1 + min(int((drawn_R <= 0).sum()), int((drawn_R >= 0).sum()))
        low, high = np.quantile(drawn_R, [0.025, 0.975])
        p = min(1.0, 2 * tail / (len(drawn_R) + 1))
        results.append(Paired(float(mean), p, (float(low), float(high))))
    return results


def draws(users: int, resamples: int, random: np.random.Generator) -> Iterator[I64]:
    """Yield how often each user is drawn with replacement, `[R, U]` in chunks that fit into memory."""
    chunk = max(1, _CHUNK // users)
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        drawn = random.integers(users, size=(rows, users)) + users * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * users).reshape(rows, users)


def _mean(counts_RU: I64, total_UM: F64, weight_U: F64) -> F64:
    """`[R, M]`"""
    counts = counts_RU.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        out: F64 = (counts @ total_UM) / (counts @ weight_U)[:, None]
    return out
