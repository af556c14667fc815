"""The pictures of the watch-time report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from training.compare._panels import BLUE, DPI, GREY, LIGHT, ORANGE, VERDICTS, grid_of
from training.compare._report import Row
from training.compare.watch_time._assemble import REFERENCE
from training.compare.watch_time._world import World

_MOST_RATIO: Final = 2.5


def draw(folder: Path, rows: Sequence[Row], world: World) -> None:
    """Every picture that `report.md` shows."""
    shown = [row for row in rows if row.refused is None]
    _bars(folder / "bars.png", shown)
    _predicted(folder / "predicted.png", shown)
    sure = [row for row in shown if "calibration" in row.more]
    if sure:
        _reliability(folder / "reliability.png", sure)
    for row in shown:
        if "anchors" in row.more:
            _anchors(folder / "anchors.png", row.more["anchors"], world)


def _bars(path: Path, rows: Sequence[Row]) -> None:
    """MAE and XAUC of every method with their deviations over the seeds."""
    figure = Figure(figsize=(9.0, 0.24 * len(rows) + 1.2), dpi=DPI, layout="constrained")
    at = np.arange(len(rows))[::-1]
    for axes, (name, title) in zip(
        figure.subplots(1, 2, sharey=True),
        (("mae_s", "MAE, s (less is better)"), ("xauc", "XAUC (more is better)")),
        strict=True,
    ):
        means = np.array([row.metrics[name].mean or np.nan for row in rows])
        stds = np.array([row.metrics[name].std or 0.0 for row in rows])
        verdicts = [row.against[name].verdict if name in row.against else "" for row in rows]
        colours = [
            ORANGE if row.method == REFERENCE else VERDICTS.get(verdict, LIGHT)
            for row, verdict in zip(rows, verdicts, strict=True)
        ]
        axes.barh(at, means, xerr=stds, color=colours, height=0.75, error_kw={"lw": 0.9})
        low, high = np.nanmin(means - stds), np.nanmax(means + stds)
        span = (high - low) or 1.0
        axes.set_xlim(max(0.0, low - 0.2 * span), high + 0.05 * span)
        axes.set_yticks(at, [row.method for row in rows], fontsize=8)
        axes.set_title(title, fontsize=9)
        axes.tick_params(axis="x", labelsize=7)
    figure.suptitle(
        "Mean and standard deviation over the seeds. Axes do not begin at 0. "
        "LDA (orange) leads blue, ties with grey, loses to red",
        fontsize=9,
    )
    figure.savefig(path)


def _predicted(path: Path, rows: Sequence[Row]) -> None:
    """Mean predicted against actual seconds by duration group, a panel a method."""
    figure, grid = grid_of(len(rows), width=2.3, height=1.9)
    for axes, row in zip(grid, rows, strict=True):
        parts = row.more["by_duration"]
        at = np.arange(len(parts))
        axes.plot(at, [p["actual_mean_s"] for p in parts], color=GREY, marker="o", ms=3, label="actual mean")
        axes.plot(at, [p["actual_median_s"] for p in parts], color=GREY, ls=":", label="actual median")
        axes.plot(
            at, [p["predicted_mean_s"] for p in parts], color=ORANGE, marker="o", ms=3, label="predicted"
        )
        axes.set_xticks(at, [f"{p['from_s']:.0f}" for p in parts], fontsize=6)
        axes.set_title(row.method, fontsize=8)
    grid[0].legend(fontsize=6, frameon=False)
    figure.supxlabel("duration group, from seconds", fontsize=9)
    figure.supylabel("watch time, s", fontsize=9)
    figure.suptitle("Predicted and actual watch time by duration (first seed)", fontsize=10)
    figure.savefig(path)


def _reliability(path: Path, rows: Sequence[Row]) -> None:
    """How often the watch time lies below each quantile in each duration group, a panel a method."""
    figure, grid = grid_of(len(rows), width=2.6, height=2.2)
    for axes, row in zip(grid, rows, strict=True):
        found = row.more["calibration"]
        parts = [(g, part) for g, part in enumerate(found["below_by_octile"]) if part is not None]
        for place, level in enumerate(found["levels"]):
            axes.axhline(level, color=LIGHT, lw=1)
            axes.plot([g for g, _ in parts], [part[place] for _, part in parts], color=BLUE, marker="o", ms=3)
        axes.set_ylim(0, 1)
        axes.set_title(row.method, fontsize=8)
    figure.supxlabel("duration group, short to long", fontsize=9)
    figure.supylabel("share of rows below", fontsize=9)
    figure.suptitle("Rows below the predicted p10, p50 and p90; light: where they should be", fontsize=10)
    figure.savefig(path)


def _anchors(path: Path, anchors: dict[str, Any], world: World) -> None:
    """Histogram of the watch ratios of each duration group of LDA's, with its anchors on it."""
    duration, watched = world.log.duration_s[world.known], world.log.watch_time_s[world.known]
    group = np.searchsorted(np.array(anchors["edges_s"]), duration, side="right")
    present = [g for g in range(len(anchors["ratio"])) if (group == g).any()]
    figure, grid = grid_of(len(present), width=2.3, height=1.7)
    bins = np.linspace(0, _MOST_RATIO, 51)
    for axes, g in zip(grid, present, strict=True):
        mine = group == g
        ratio = (watched[mine] / duration[mine]).clip(max=_MOST_RATIO)
        axes.hist(ratio, bins.tolist(), density=True, color=LIGHT)
        axes.vlines(
            np.clip(anchors["ratio"][g], None, _MOST_RATIO),
            0,
            10 * np.array(anchors["share"][g]),
            color=ORANGE,
            lw=1,
        )
        axes.set_title(f"{duration[mine].min():.0f} to {duration[mine].max():.0f} s", fontsize=8)
        axes.set_ylim(0, 4)
    figure.supxlabel(f"watch ratio (cut at {_MOST_RATIO:g})", fontsize=9)
    figure.supylabel("density", fontsize=9)
    figure.suptitle("Watch ratios of the training rows by duration group, and LDA's anchors", fontsize=10)
    figure.savefig(path)
