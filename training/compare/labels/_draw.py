"""The findings of the label report as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.compare._jobs import Job, Outcome
from training.compare._report import Row, Summary
from training.compare.labels._assemble import REFERENCE, Findings
from training.compare.labels._columns import title
from training.compare.labels._judge import BINS_S
from training.compare.labels._methods import Method
from training.compare.labels._pictures import (
    Bar,
    Point,
    draw_bars,
    draw_curves,
    draw_front,
    draw_histograms,
    draw_surfaces,
)
from training.labelcraft import OBJECTIVES


def surfaces(methods: Sequence[Method], outcomes: Mapping[Job, Outcome]) -> dict[str, Any]:
    """One picture of each label maker, the first that any of the fits kept."""
    found: dict[str, Any] = {}
    for method in methods:
        for job, outcome in outcomes.items():
            if job.method == method.name:
                found |= {n: s for n, s in outcome.result.get("surfaces", {}).items() if n not in found}
    return found


def draw(folder: Path, findings: Findings, found: Mapping[str, Any]) -> None:
    """Every picture that `report.md` shows; `found` are the label makers' surfaces."""
    rows, columns = findings.plain(), findings.columns()
    k = findings.cuts[-1]
    draw_surfaces(folder / "labels.png", found)
    draw_histograms(
        folder / "durations.png",
        BINS_S,
        findings.exposed,
        {row.method: row.more["histogram"] for row in rows},
        k,
    )
    reference = findings.reference
    if reference is not None:
        titles = {name: name.replace("_", " ") for name in OBJECTIVES} | {
            "nwtg": "NWTG on the early-stop days"
        }
        draw_curves(folder / "learning.png", reference.more["curves"], titles)
    front = [] if findings.front is None else findings.front.points
    draw_front(
        folder / "front.png",
        [_point(row.method, row.metrics, columns) for row in rows],
        [_point(f"{share:g}", metrics, columns) for share, metrics in front],
        REFERENCE,
        [title(name) for name in columns],
    )
    shown = [row for row in findings.rows if row.refused is None]
    draw_bars(folder / "bars.png", {title(name): [_bar(row, name) for row in shown] for name in columns})


def _point(name: str, metrics: Mapping[str, Summary], columns: Sequence[str]) -> Point:
    x, y, size = (metrics[column] for column in columns)
    return Point(name, x.mean or 0.0, y.mean or 0.0, x.std or 0.0, y.std or 0.0, size.mean or 0.0)


def _bar(row: Row, column: str) -> Bar:
    figure = row.metrics[column]
    verdict = row.against[column].verdict if column in row.against else ""
    return Bar(
        row.method, figure.mean or 0.0, figure.std or 0.0, "reference" if row.method == REFERENCE else verdict
    )
