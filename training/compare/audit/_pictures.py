"""The pictures of the audit, made of nothing but `report.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from training.compare._panels import BLUE, DPI, GREY, LIGHT, ORANGE, RED, grid_of

Row = Mapping[str, Any]

_COLOURS: Final = {"reference": GREY, "encoder": ORANGE, "label": BLUE}
_ACROSS: Final = 4
"""Panels of the probe side by side."""
_FELL: Final = {"author": BLUE, "tag": ORANGE, "unrelated": GREY, "similar": RED}


def draw(folder: Path, report: Mapping[str, Any]) -> None:
    """Every picture that `report.md` shows."""
    rows, window = report["rows"], report["window"]
    for key, title in (("duration", "duration"), ("popularity", "exposures before the window")):
        names = [group["name"] for group in window[f"{key}_groups"]]
        _shares(folder / f"{key}.png", rows, key, names, title)
        _lifts(folder / f"{key}-ndcg.png", rows, key, names, title)
    if window["user_groups"] is not None:
        _users(folder / "users.png", [row for row in rows if row["kind"] != "label"])
    probed = [row for row in rows if row["probe"]]
    if probed:
        _probe(folder / "probe.png", probed)


def _shares(path: Path, rows: Sequence[Row], key: str, names: Sequence[str], title: str) -> None:
    """Share shown over share logged of each group, a panel a row."""
    figure, grid = grid_of(len(rows), width=2.2, height=1.7)
    at = np.arange(len(names))
    for axes, row in zip(grid, rows, strict=True):
        share, logged = np.array(row[key]["share"]), np.array(row[key]["logged"])
        times = np.divide(share, logged, out=np.full(len(at), np.nan), where=logged > 0)
        axes.bar(at, np.clip(times, 0, 3), color=_COLOURS[row["kind"]])
        axes.axhline(1.0, color="black", lw=0.8)
        axes.set_title(row["name"], fontsize=7)
        axes.set_xticks(at, names, rotation=60, ha="right", fontsize=5)
        axes.set_ylim(0, 3)
    figure.supylabel("share shown / share logged (cut at 3)", fontsize=8)
    figure.suptitle(
        f"Places by {title}; 1 is no bias. Grey: references, orange: encoders, blue: labels", fontsize=9
    )
    figure.savefig(path)


def _lifts(path: Path, rows: Sequence[Row], key: str, names: Sequence[str], title: str) -> None:
    """nDCG of each group above a random order, a panel a row."""
    figure, grid = grid_of(len(rows), width=2.2, height=1.7)
    at = np.arange(len(names))
    for axes, row in zip(grid, rows, strict=True):
        found, chance = (np.array(row[key][name], np.float64) for name in ("ndcg", "chance"))
        axes.bar(at, found - chance, color=_COLOURS[row["kind"]])
        axes.axhline(0.0, color="black", lw=0.8)
        axes.set_title(row["name"], fontsize=7)
        axes.set_xticks(at, names, rotation=60, ha="right", fontsize=5)
    figure.supylabel("nDCG less that of a random order", fontsize=8)
    figure.suptitle(f"Where the relevant rows of each group end up, by {title}", fontsize=9)
    figure.savefig(path)


def _users(path: Path, rows: Sequence[Row]) -> None:
    """NWTG of the groups of users, and the lead of the first with its interval."""
    figure = Figure(figsize=(8.0, 0.3 * len(rows) + 1.3), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    at = np.arange(len(rows))[::-1]
    for place, (offset, colour) in enumerate(((0.2, BLUE), (-0.2, ORANGE))):
        groups = [row["users"]["groups"][place] for row in rows]
        left.barh(
            at + offset, [g["nwtg"] or np.nan for g in groups], 0.38, color=colour, label=groups[0]["name"]
        )
    left.set_yticks(at, [row["name"] for row in rows], fontsize=7)
    left.set_title("NWTG", fontsize=9)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=7)
    for y, row in zip(at, rows, strict=True):
        if row["users"]["gap"] is not None:
            right.plot(row["users"]["gap_ci"], [y, y], color=GREY, lw=2)
            right.plot(row["users"]["gap"], y, "o", color=RED, ms=4)
    right.axvline(0.0, color=LIGHT)
    right.set_title("the first group's lead (95 %)", fontsize=9)
    for axes in (left, right):
        axes.tick_params(axis="x", labelsize=7)
    figure.savefig(path)


def _probe(path: Path, rows: Sequence[Row]) -> None:
    """Change of each kind of candidate with its interval, a panel a row and answer."""
    panels = [(row["name"], of, kinds) for row in rows for of, kinds in row["probe"].items()]
    columns = min(len(panels), _ACROSS)
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.0 * lines + 0.3), dpi=DPI, layout="constrained")
    grid = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    for axes, (name, of, kinds) in zip(grid, panels, strict=False):
        for y, (kind, found) in enumerate(reversed(kinds.items())):
            axes.plot(found["ci"], [y, y], color=_FELL[kind], lw=3, alpha=0.5)
            axes.plot(found["change"], y, "o", color=_FELL[kind])
        axes.axvline(0.0, color=GREY, lw=0.8)
        axes.set_yticks(range(len(kinds)), list(reversed(kinds)), fontsize=7)
        axes.set_title(f"{name}: {of}" if of not in name else name, fontsize=7)
        axes.tick_params(axis="x", labelsize=6)
    figure.suptitle("A whole view in the history becomes a skip: change of a candidate (95 %)", fontsize=9)
    figure.savefig(path)
