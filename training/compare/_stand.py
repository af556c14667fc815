"""Where the reference stands among the rows, column by column, in figures and in sentences made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from training.compare._report import Row

Among = Literal["all", "paper"]


class Standing(NamedTuple):
    """One column of the table, seen from the reference."""

    figure: str
    among: Among
    """`all` rows, or those that the `paper` compares LabelCraft with."""
    place: int
    """1 is first. Only rows that are no variant of the reference count."""
    of: int
    first: str
    """The row with the largest mean."""
    gap: float
    """What the reference lacks to the first row; 0 if it is first."""
    stds: float | None
    """The same in the reference's own standard deviations over the seeds; `None` if it has none."""

    @property
    def within(self) -> bool:
        """First, or within one standard deviation of first."""
        return self.gap == 0 or (self.stds is not None and self.stds <= 1)

    def as_json(self) -> dict[str, Any]:
        """For `report.json`."""
        return {**self._asdict(), "within": self.within}


def order(rows: Sequence[Row], figure: str) -> list[Row]:
    """The rows that have a figure, largest mean first."""
    known = [row for row in rows if figure in row.metrics and row.metrics[figure].mean is not None]
    return sorted(known, key=lambda row: -(row.metrics[figure].mean or 0.0))


def among_rows(rows: Sequence[Row], reference: Row, among: Among) -> list[Row]:
    """The rows that the reference is put among, and itself."""
    return [row for row in rows if row is reference or among == "all" or row.more.get("paper")]


def standing(rows: Sequence[Row], reference: Row, figure: str, among: Among = "all") -> Standing:
    """How the reference does in a figure among rows that contain it."""
    ranked = order(among_rows(rows, reference, among), figure)
    first, mine = ranked[0].metrics[figure], reference.metrics[figure]
    gap = (first.mean or 0.0) - (mine.mean or 0.0)
    return Standing(
        figure,
        among,
        1 + [row.method for row in ranked].index(reference.method),
        len(ranked),
        ranked[0].method,
        gap,
        gap / mine.std if mine.std else None,
    )


def sentence(rows: Sequence[Row], reference: Row, stand: Standing, called: str, digits: int) -> str:
    """A column in one line: place, gap, and what the paired bootstrap makes of it."""
    rows = among_rows(rows, reference, stand.among)
    mine = reference.metrics[stand.figure]
    begins = f"**{called}**: {reference.method} has {interval(mine.mean, mine.std, digits)}"
    if stand.gap == 0:
        second = next((row for row in order(rows, stand.figure) if row is not reference), None)
        if second is None:
            return f"{begins}."
        figure = second.metrics[stand.figure]
        return (
            f"{begins} and is first of {stand.of}; `{second.method}` follows with "
            f"{interval(figure.mean, figure.std, digits)}{_test(second, stand.figure, digits)}."
        )
    first = next(row for row in rows if row.method == stand.first)
    figure = first.metrics[stand.figure]
    far = "" if stand.stds is None else f", {stand.stds:.1f} of its standard deviations over the seeds"
    return (
        f"{begins} and is number {stand.place} of {stand.of}; first is `{first.method}` with "
        f"{interval(figure.mean, figure.std, digits)}, a gap of {stand.gap:.{digits}f}{far}"
        f"{_test(first, stand.figure, digits)}."
    )


def interval(mean: float | None, std: float | None, digits: int) -> str:
    """`0.5731 ± 0.0034`"""
    if mean is None:
        return "–"
    return f"{mean:.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")


def _test(row: Row, figure: str, digits: int) -> str:
    found = row.against.get(figure)
    if found is None:
        return ""
    low, high = found.ci
    return (
        f"; on the same users the difference is {found.difference:+.{digits}f} "
        f"(95 %: {low:+.{digits}f} to {high:+.{digits}f}, p = {found.p_value:.3f})"
    )
