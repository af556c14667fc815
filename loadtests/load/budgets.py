"""Figures compared with what they should be: `loadtests/budgets.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from models.errors import BadInput

FILE: Final = Path(__file__).parents[1] / "budgets.toml"


@dataclass(frozen=True, slots=True)
class Budget:
    """A bound of one figure: exactly one of `at_least` and `at_most`."""

    title: str
    scenario: str
    figure: str  # of the scenario's figures, steps into objects by dots
    at_least: float | None = None
    at_most: float | None = None

    def verdict(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Compare the figures of the scenario with the bound.

        Returns:
            `title`, `bound` (text), `found` (`None` without such a figure, which is a miss), `met` and
            `missed_by` (text, a factor or percent; empty if met).
        """
        value: Any = figures
        for step in self.figure.split("."):
            value = value.get(step) if isinstance(value, Mapping) else None
        upper = self.at_most is not None
        bound = self.at_most if self.at_most is not None else self.at_least
        assert bound is not None, "checked by `read_budgets`"
        text = f"{'≤' if upper else '≥'} {bound:,g}"
        if value is None:
            return {"title": self.title, "bound": text, "found": None, "met": False, "missed_by": "no figure"}
        met = value <= bound if upper else value >= bound
        missed_by = "" if met else _distance(value, bound)
        return {"title": self.title, "bound": text, "found": float(value), "met": met, "missed_by": missed_by}


def read_budgets(path: Path = FILE) -> list[Budget]:
    """Return the budgets in the order of the file.

    Raises:
        BadInput: the file cannot be read, or a budget is incomplete.
    """
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise BadInput(f"{path} cannot be read: {e}.") from None
    budgets = []
    for name, table in tables.items():
        try:
            budget = Budget(**table)
        except TypeError as e:
            raise BadInput(f"{path}: [{name}]: {e}.") from None
        if (budget.at_least is None) == (budget.at_most is None):
            raise BadInput(f"{path}: [{name}] needs one of `at_least` and `at_most`.")
        budgets.append(budget)
    return budgets


def verdicts(budgets: list[Budget], figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the verdicts of budgets whose scenarios were run, given all figures by scenario."""
    return [b.verdict(figures[b.scenario]) for b in budgets if b.scenario in figures]


def _distance(value: float, bound: float) -> str:
    if not bound or not value:
        return f"{value - bound:+,g}"
    factor = max(value / bound, bound / value)
    return f"{factor:.1f}x" if factor >= 2 else f"{factor - 1:.0%}"
