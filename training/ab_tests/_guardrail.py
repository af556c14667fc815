"""Guardrails: metrics that an experiment may not harm while it looks for a gain elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from training.ab_tests._difference import ArmDifference

Verdict = Literal["holds", "violated", "undecided"]


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A metric and the relative harm that is tolerated."""

    metric: str
    tolerance: float
    """Share of the control's value, more than 0."""
    higher_is_better: bool = True

    def verdict(self, found: ArmDifference) -> Verdict:
        """Decide by the always-valid interval, since guardrails are read every day.

        Returns:
            `holds` once harm beyond the tolerance is ruled out, `violated` once less harm is ruled out, else
            `undecided`.
        """
        interval = found.always_valid_relative_interval
        if interval is None:
            return "undecided"
        low, high = interval if self.higher_is_better else (-interval[1], -interval[0])
        if low >= -self.tolerance:
            return "holds"
        return "violated" if high < -self.tolerance else "undecided"
