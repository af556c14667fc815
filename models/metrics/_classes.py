"""Yes or no, said and true: counts that add up, and the figures made of them."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np

from models.metrics._rows import Column, numbers


class Confusion(NamedTuple):
    """How many rows of each kind. Figures of a whole come from the sum of its parts' counts, not from a mean
    of their figures: `Confusion.of(all) == Confusion.of(a).plus(Confusion.of(b))`."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @classmethod
    def of(cls, label: Column, said: Column) -> Self:
        """Count rows.

        Args:
            label: `[N]`; above 0 is positive.
            said: `[N]`; above 0 is said to be positive.

        Raises:
            BadInput: a value is not finite.
        """
        label, said = (column > 0 for column in numbers(label=label, said=said))
        return cls(
            *(int(np.sum(kind)) for kind in (label & said, ~label & said, label & ~said, ~label & ~said))
        )

    def plus(self, other: Self) -> Self:
        """The counts of both."""
        return type(self)(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    @property
    def accuracy(self) -> float | None:
        """Share of rows that are right; `None` without rows."""
        return _ratio(self.true_positive + self.true_negative, sum(self))

    @property
    def precision(self) -> float | None:
        """Share of what was said to be positive that is; `None` where nothing was."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float | None:
        """Share of the positive that was found; `None` where none is."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; `None` where nothing is positive or said to be."""
        wrong = self.false_positive + self.false_negative
        return _ratio(2 * self.true_positive, 2 * self.true_positive + wrong)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
