"""The report of an experiment: `python -m training experiment` writes it, the service shows the newest one.

`report.json` has more members; these are what is shown.
"""

from __future__ import annotations

from typing import Final

import msgspec

FOLDER: Final = "experiments"
"""In that of the served log; in it a folder for each experiment, by its name, and in that for each report."""

FILE: Final = "report.json"

Interval = tuple[float, float]


class ArmFigures(msgspec.Struct, frozen=True, omit_defaults=True):
    """One metric of one arm: a mean over users, and the difference from the control, if it is another arm."""

    mean: float
    users: int
    relative: float | None = None
    """Of the control's value."""
    relative_interval: Interval | None = None
    """Of 95 %, for one look."""
    always_valid_relative_interval: Interval | None = None
    """Of 95 %, for all looks together."""
    p_value: float | None = None


class ArmUsers(msgspec.Struct, frozen=True):
    """An arm, its planned share of the experiment's users, and the users it has had."""

    arm: str
    share: float
    users: int


class Look(msgspec.Struct, frozen=True):
    """Watch time of every arm as of a moment."""

    end_ms: int
    arms: dict[str, ArmFigures]


class GuardrailVerdict(msgspec.Struct, frozen=True):
    """Whether an arm harms a metric by more than the tolerance."""

    metric: str
    tolerance: float
    arm: str
    verdict: str
    """holds, violated or undecided."""


class ExperimentReport(msgspec.Struct, frozen=True):
    """The arms of an experiment, compared by user."""

    name: str
    control: str
    start_ms: int
    end_ms: int
    arms: list[ArmUsers]
    sample_ratio_p: float
    sample_ratio_flagged: bool
    """The arms are not as large as planned: nothing else is to be believed."""
    metrics: dict[str, dict[str, ArmFigures]]
    """By metric and arm."""
    looks: list[Look]
    """One a day, oldest first."""
    guardrails: list[GuardrailVerdict]
