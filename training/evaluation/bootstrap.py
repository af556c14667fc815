"""Paired bootstrap: whether one method is better than another beyond the luck of users and of fits."""

# Shape suffixes: M rows of a table, U users, R resamples, D fits of a method, V values (of users in windows).

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Self

import numpy as np

from models.arrays import F64, I64

RESAMPLES: Final = 2000
_CHUNK: Final = 4_000_000
"""Users drawn in one go: 32 MB."""
_POWER: Final = 1.959964 + 0.841621
"""Standard errors between a difference and 0 that p < .05 finds four times in five."""
_SELF_RESAMPLES: Final = 2000
"""Enough for p < .05, which is all that comparisons of a method with itself are asked."""


class Measure(NamedTuple):
    """A figure as a weighted mean of values, of each user in each window."""

    values: str
    """Which of the values."""
    weight: F64
    """`[V]` how much each counts; 0 leaves a value out."""
    of_mean: Callable[[F64], F64] | None = None
    """What makes the figure of the mean, such as a root."""


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


class Difference(NamedTuple):
    """The first method's figure minus the second's."""

    difference: float
    ci: tuple[float, float]
    """The middle 95 % of the resampled differences."""
    p_value: float
    standard_error: float

    @property
    def detectable(self) -> float:
        """The smallest difference that this comparison would find with a probability of .8."""
        return _POWER * self.standard_error


@dataclass(frozen=True)
class Resamples:
    """Users drawn with replacement, the same for all methods, and the fits of a method likewise.

    Users alone leave out what another draw of a fit's seed or rows would change: comparisons of a label with
    itself then find a difference up to four times in ten.
    """

    counts: F64
    """`[R, U]` how often each user is drawn."""
    user: I64
    """`[V]` of each value its row in U: a user of several windows is drawn with all of them."""
    seed: int

    @classmethod
    def draw(cls, user_V: I64, resamples: int, *, seed: int) -> Self:
        """Draw `resamples` times from the users of values."""
        users, index_V = np.unique(user_V, return_inverse=True)
        random = np.random.default_rng(seed)
        return cls(np.concatenate([*draws(len(users), resamples, random)]).astype(np.float64), index_V, seed)

    def difference(
        self,
        first_DV: F64,
        second_DV: F64,
        weight_V: F64 | None = None,
        of_mean: Callable[[F64], F64] | None = None,
    ) -> Difference | None:
        """Compare two methods, their fits in pairs; `None` where no user has a figure.

        Args:
            first_DV, second_DV: values; NaN leaves one out of both. A method with one fit is paired with
                every fit of the other.
            weight_V: how much each value counts; by default all the same.
            of_mean: what makes the figure of the mean.
        """
        first_DV, second_DV = np.broadcast_arrays(first_DV, second_DV)
        has_V = np.isfinite(first_DV - second_DV).all(axis=0)
        counted_V = has_V * (1.0 if weight_V is None else weight_V)
        if not counted_V.any():
            return None
        fits = len(first_DV)
        random = np.random.default_rng(self.seed + 1)
        share_RD = random.multinomial(fits, np.full(fits, 1 / fits), len(self.counts)) / fits
        weight_U = np.bincount(self.user, counted_V, minlength=self.counts.shape[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn_weight_R = self.counts @ weight_U

        def figures(values_DV: F64) -> tuple[float, F64]:
            """The mean over the fits of their figures: of all users, and of each resample, `[R]`."""
            total_UD = np.stack(
                [
                    np.bincount(self.user, counted_V * np.where(has_V, value_V, 0.0), minlength=len(weight_U))
                    for value_V in values_DV
                ],
                axis=1,
            )
            mean_D = total_UD.sum(axis=0) / weight_U.sum()
            with np.errstate(invalid="ignore", divide="ignore"):
                mean_RD = (self.counts @ total_UD) / drawn_weight_R[:, None]
            if of_mean is not None:
                mean_D, mean_RD = of_mean(mean_D), of_mean(mean_RD)
            return float(mean_D.mean()), (mean_RD * share_RD).sum(axis=1)

        if of_mean is None:
            difference, drawn_R = figures(first_DV - second_DV)
        else:
            (first, first_R), (second, second_R) = figures(first_DV), figures(second_DV)
            difference, drawn_R = first - second, first_R - second_R
        drawn_R = drawn_R[np.isfinite(drawn_R)]
        tail = 1 + min(int((drawn_R <= 0).sum()), int((drawn_R >= 0).sum()))
        low, high = np.quantile(drawn_R, [0.025, 0.975])
        p_value = min(1.0, 2 * tail / (len(drawn_R) + 1))
        return Difference(difference, (float(low), float(high)), p_value, float(drawn_R.std(ddof=1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number: the probability of one false mark among all stays α.

        p̃_(i) = max_{j ≤ i} min(1, (m - j + 1) p_(j))

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    order = np.argsort(p_values, kind="stable")
    factor = np.arange(len(p_values), 0, -1)
    corrected = np.minimum(1.0, np.maximum.accumulate(factor * np.asarray(p_values, float)[order]))
    out = np.empty(len(p_values))
    out[order] = corrected
    return [float(p) for p in out]


def self_p_values(
    resamples: Resamples,
    methods_DV: Sequence[F64],
    trials: int,
    *,
    seed: int,
    weight_V: F64 | None = None,
    of_mean: Callable[[F64], F64] | None = None,
) -> list[float]:
    """Return p values of comparisons of a method with itself, by two disjoint halves of its fits.

    Args:
        resamples: of the users.
        methods_DV: values of each method.
        trials: how many comparisons, over the methods in turn.
        seed: of the halves.
        weight_V, of_mean: as in `Resamples.difference`.
    """
    random, p_values = np.random.default_rng(seed), []
    resamples = replace(resamples, counts=resamples.counts[:_SELF_RESAMPLES])
    for trial in range(trials if methods_DV else 0):
        values_DV = methods_DV[trial % len(methods_DV)]
        order = random.permutation(len(values_DV))
        half = len(order) // 2
        first_DV, second_DV = values_DV[order[:half]], values_DV[order[half : 2 * half]]
        found = resamples.difference(first_DV, second_DV, weight_V, of_mean)
        if found is not None:
            p_values.append(found.p_value)
    return p_values
