"""What every estimator returns: a value in parts, which can be summed again over resampled users."""

# Shape suffixes: N logged slates, K positions.

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from models.arrays import F64


class Terms(NamedTuple):
    """The parts of an estimate, a line for each logged slate.

    V̂ = Σ_k (Σ_n numerator_nk / Σ_n denominator_nk)
    """

    numerator: F64
    """`[N, K]`"""
    denominator: F64
    """`[N, K]`"""

    @property
    def value(self) -> float:
        """The estimated reward of a slate: the sum of the rewards of its positions."""
        return float((self.numerator.sum(axis=0) / self.denominator.sum(axis=0)).sum())

    def __sub__(self, other: Terms) -> Terms:
        """Return the terms of the difference of two estimates from the same slates."""
        return Terms(
            np.concatenate([self.numerator, -other.numerator], axis=1),
            np.concatenate([self.denominator, other.denominator], axis=1),
        )
