"""What was found, held against what it should be: `loadtests/budgets.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from models.errors import BadInput

FILE: Final = Path(__file__).parents[1] / "budgets.toml"


@dataclass(frozen=True, slots=True)
class Budget:
    """A bound of one figure.

    Attributes:
        what: for people.
        scenario: by its name.
        figure: of that scenario's figures, steps into objects by dots.
        at_least: the bound, if more is better.
        at_most: the bound, if less is better; exactly one of the two.
    """

    what: str
    scenario: str
    figure: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def bound(self) -> float:
        """Whichever it is."""
        bound = self.at_least if self.at_least is not None else self.at_most
        assert bound is not None, "one of the two is there, see `read_budgets`"
        return bound


@dataclass(frozen=True, slots=True)
class Verdict:
    """A budget and what was found.

    Attributes:
        what: of the budget.
        bound: in words, e.g. `≤ 3`.
        found: `None` where the scenario has no such figure, which is a miss.
        met: whether it keeps to the bound.
        missed_by: in words, e.g. `2.1x`; empty if it is met.
    """

    what: str
    bound: str
    found: float | None
    met: bool
    missed_by: str

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def read_budgets(path: Path = FILE) -> list[Budget]:
    """All of them, in the order of the file.

    Raises:
        BadInput: the file cannot be read, or a budget is not as it should be.
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


def verdicts(budgets: list[Budget], found: Mapping[str, Any]) -> list[Verdict]:
    """Of the budgets whose scenarios were played."""
    return [verdict(budget, found[budget.scenario]) for budget in budgets if budget.scenario in found]


def verdict(budget: Budget, figures: Mapping[str, Any]) -> Verdict:
    """Of one budget, for the figures of its scenario."""
    value: Any = figures
    for step in budget.figure.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    bound = budget.bound
    sign = "≥" if budget.at_least is not None else "≤"
    if value is None:
        return Verdict(budget.what, f"{sign} {bound:,g}", None, False, "no figure")
    met = value >= bound if budget.at_least is not None else value <= bound
    return Verdict(
        budget.what, f"{sign} {bound:,g}", float(value), bool(met), "" if met else _by(value, bound)
    )


def _by(value: float, bound: float) -> str:
    """How far off: as a factor where it is far, in percent where it is near."""
    if not bound or not value:
        return f"{value - bound:+,g}"
    factor = max(value / bound, bound / value)
    return f"{factor:.1f}x" if factor >= 2 else f"{factor - 1:.0%}"
