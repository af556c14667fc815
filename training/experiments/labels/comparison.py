"""Differences between methods beyond the luck of their users and of their recommenders."""

# Shape suffixes: D redraws of a recommender, V values (users of all windows), U distinct users, B resamples.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from models.arrays import F64, I64
from training.evaluation.bootstrap import draws

_POWER: Final = 1.959964 + 0.841621
"""Standard errors between a difference and 0 that p < .05 finds four times in five."""


_SAME_LABEL_RESAMPLES: Final = 2000
"""Enough for p < .05, which is all that comparisons of a label with itself are asked."""


class Difference(NamedTuple):
    """The reference's figure minus a method's."""

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
    """Users drawn with replacement, the same for all methods, and recommenders likewise.

    Users alone leave out what another draw of the recommender's own users would change: comparisons of a
    label with itself then find a difference up to four times in ten.
    """

    counts: F64
    """`[B, U]` how often each user is drawn."""
    user: I64
    """`[V]` of each value its row in U: a user of several windows is drawn with all of them."""
    seed: int

    @classmethod
    def draw(cls, user_V: I64, resamples: int, *, seed: int) -> Resamples:
        """Draw `resamples` times from the users of values."""
        users, index_V = np.unique(user_V, return_inverse=True)
        random = np.random.default_rng(seed)
        return cls(np.concatenate([*draws(len(users), resamples, random)]).astype(np.float64), index_V, seed)

    def difference(self, first_DV: F64, second_DV: F64) -> Difference | None:
        """Compare two methods with redraws in pairs; `None` where no user has a figure.

        Every user counts the same; NaN leaves a value out.
        """
        delta_DV = first_DV - second_DV
        has_V = np.isfinite(delta_DV).all(axis=0)
        if not has_V.any():
            return None
        users, redraws = self.counts.shape[1], len(delta_DV)
        total_UD = np.stack(
            [np.bincount(self.user, np.where(has_V, d, 0.0), minlength=users) for d in delta_DV], axis=1
        )
        values_U = np.bincount(self.user, has_V, minlength=users)
        random = np.random.default_rng(self.seed + 1)
        share_BD = random.multinomial(redraws, np.full(redraws, 1 / redraws), len(self.counts)) / redraws
        with np.errstate(invalid="ignore", divide="ignore"):
            drawn_B = ((self.counts @ total_UD) * share_BD).sum(axis=1) / (self.counts @ values_U)
        drawn_B = drawn_B[np.isfinite(drawn_B)]
        tail = 1 + min(int((drawn_B <= 0).sum()), int((drawn_B >= 0).sum()))
        low, high = np.quantile(drawn_B, [0.025, 0.975])
        return Difference(
            float(total_UD.mean(axis=1).sum() / values_U.sum()),
            (float(low), float(high)),
            min(1.0, 2 * tail / (len(drawn_B) + 1)),
            float(drawn_B.std(ddof=1)),
        )


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


def same_label_p_values(
    resamples: Resamples, methods_DV: Sequence[F64], trials: int, *, seed: int
) -> list[float]:
    """Return p values of comparisons of a method with itself, by two disjoint halves of its redraws.

    Args:
        resamples: of the users.
        methods_DV: values of each method.
        trials: how many comparisons, over the methods in turn.
        seed: of the halves.
    """
    random, p_values = np.random.default_rng(seed), []
    resamples = replace(resamples, counts=resamples.counts[:_SAME_LABEL_RESAMPLES])
    for trial in range(trials if methods_DV else 0):
        values_DV = methods_DV[trial % len(methods_DV)]
        order = random.permutation(len(values_DV))
        half = len(order) // 2
        found = resamples.difference(values_DV[order[:half]], values_DV[order[half : 2 * half]])
        if found is not None:
            p_values.append(found.p_value)
    return p_values
