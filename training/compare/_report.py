"""Rows of a comparison from what its jobs found: means over seeds, and each row against one of them."""

# Shape suffixes: M rows of the table, U users.

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from models.arrays import F64
from training.evaluation.bootstrap import paired_bootstrap

SIGNIFICANT: Final = 0.05
"""The p value below which a difference counts. Every row and column is a test of its own; nothing is done
about their number."""
MARKS: Final = {"leads": " ▲", "ties": " =", "loses": " ▼"}
"""Behind a row's figure: the reference leads it, ties with it, or loses to it."""


class Measure(NamedTuple):
    """A figure as a weighted mean of per-user values."""

    values: str
    """Which values."""
    weight: F64
    """`[U]` how much each user counts; 0 leaves a user out."""


class Summary(NamedTuple):
    """A figure over the seeds."""

    mean: float | None
    std: float | None
    """Sample standard deviation; `None` for a single seed."""
    seeds: list[float | None]


class Versus(NamedTuple):
    """The reference against a row, in one figure: positive is the reference's lead."""

    difference: float
    p_value: float
    ci: tuple[float, float]
    relative_improvement: float | None
    """(reference - row) / row, the paper's column; `None` where the row has 0."""

    @property
    def verdict(self) -> str:
        """`leads`, `ties` or `loses`, of the reference."""
        if self.p_value >= SIGNIFICANT:
            return "ties"
        return "leads" if self.difference > 0 else "loses"


@dataclass(frozen=True)
class Row:
    """One method of the table."""

    method: str
    says: str
    refused: str | None
    """Why it could not work on this log; then there are no figures."""
    metrics: dict[str, Summary]
    against: dict[str, Versus]
    """The reference against it, by figure; empty without one, and of the reference itself."""
    more: dict[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The row of `report.json`."""
        out: dict[str, Any] = {"method": self.method, "says": self.says, "refused": self.refused}
        out["metrics"] = {name: figure._asdict() for name, figure in self.metrics.items()}
        out["against"] = {name: versus._asdict() for name, versus in self.against.items()}
        return out | self.more


def summary(seeds: Sequence[float | None]) -> Summary:
    """Mean and standard deviation over the seeds; undefined if one of them is."""
    known = [value for value in seeds if value is not None]
    whole = len(known) == len(seeds) > 0
    return Summary(
        float(np.mean(known)) if whole else None,
        float(np.std(known, ddof=1)) if whole and len(known) > 1 else None,
        list(seeds),
    )


def over_seeds(values: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, F64]:
    """Each user's values averaged over the seeds, so that users are what the bootstrap draws."""
    return {name: np.mean([seed[name] for seed in values], axis=0) for name in values[0]}


def versus(
    reference: Mapping[str, F64],
    others: Sequence[Mapping[str, F64]],
    measures: Mapping[str, Measure],
    *,
    resamples: int,
    seed: int,
) -> list[dict[str, Versus]]:
    """The reference against each of the others, in every figure, user by user."""
    out: list[dict[str, Versus]] = [{} for _ in others]
    for name, (of, weight_U) in measures.items():
        if of not in reference or not others:
            continue
        other_MU = np.stack([other[of] for other in others])
        found = paired_bootstrap(reference[of] - other_MU, weight_U, resamples=resamples, seed=seed)
        for row, other_U, paired in zip(out, other_MU, found, strict=True):
            if paired is not None:
                level = float(np.average(other_U, weights=weight_U))
                row[name] = Versus(
                    **asdict(paired), relative_improvement=paired.difference / level if level else None
                )
    return out


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text: int = 1) -> list[str]:
    """Lines of a Markdown table of figures; the first column is text, and with `text=2` the last, too."""
    rule = ["---", *["---:"] * (len(head) - 2), "---" if text == 2 else "---:"]
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return [lines[0], f"|{'|'.join(rule)}|", *lines[1:]]


def write_json(path: Path, report: Mapping[str, Any]) -> None:
    """`report.json`: figures with 6 digits, a row a line, so that two reports can be compared by eye."""
    rows = ",\n".join(json.dumps(_rounded(row)) for row in report["rows"])
    others = {name: value for name, value in report.items() if name != "rows"}
    head = json.dumps(_rounded(others), indent=1).removesuffix("\n}")
    path.write_text(head + ',\n "rows": [\n' + rows + "\n]}\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {name: _rounded(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(member) for member in value]
    return value
