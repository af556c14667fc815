"""Binary predictions against outcomes: counts that add up, and the figures made of them."""

from __future__ import annotations

from typing import NamedTuple, Self

from models.metrics._rows import Column, numbers


class Confusion(NamedTuple):
    """Counts of rows of each kind. Figures of a whole come from the sum of its parts' counts, not from a mean
    of their figures: with `f = Confusion.from_columns`, `f(a + b) == f(a).plus(f(b))`."""

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @classmethod
    def from_columns(cls, label: Column, predicted: Column) -> Self:
        """Count rows.

        Args:
            label: `[N]`; above 0 is positive.
            predicted: `[N]`; above 0 is predicted positive.

        Raises:
            BadInput: a value is not finite.
        """
        label, predicted = (column > 0 for column in numbers(label=label, predicted=predicted))
        return cls(
            int((label & predicted).sum()),
            int((~label & predicted).sum()),
            int((label & ~predicted).sum()),
            int((~label & ~predicted).sum()),
        )

    def plus(self, other: Self) -> Self:
        """Return the sum of both counts."""
        return type(self)(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def accuracy(self) -> float | None:
        """Share of rows that are right; `None` without rows."""
        return _ratio(self.true_positive + self.true_negative, sum(self))

    @property
    def precision(self) -> float | None:
        """Share of predicted positives that are positive; `None` without any."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float | None:
        """Share of positives that are predicted so; `None` without any."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; `None` where nothing is positive or predicted so."""
        wrong = self.false_positive + self.false_negative
        return _ratio(2 * self.true_positive, 2 * self.true_positive + wrong)


def _ratio(part: int, total: int) -> float | None:
    return part / total if total else None
