"""The picture of the objectives report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from training.compare._panels import DPI, LIGHT, ORANGE, VERDICTS
from training.compare._report import Row
from training.compare.objectives._assemble import REFERENCE


def draw(folder: Path, rows: Sequence[Row]) -> None:
    """Mean AUC and GAUC of every method with their deviations over the seeds."""
    shown = [row for row in rows if row.refused is None]
    figure = Figure(figsize=(9.0, 0.26 * len(shown) + 1.2), dpi=DPI, layout="constrained")
    at = np.arange(len(shown))[::-1]
    panels = (("auc", "mean AUC over the objectives"), ("gauc", "mean GAUC over the objectives"))
    for axes, (name, title) in zip(figure.subplots(1, 2, sharey=True), panels, strict=True):
        means = np.array([row.metrics[name].mean or np.nan for row in shown])
        stds = np.array([row.metrics[name].std or 0.0 for row in shown])
        verdicts = [row.against[name].verdict if name in row.against else "" for row in shown]
        colours = [
            ORANGE if row.method == REFERENCE else VERDICTS.get(verdict, LIGHT)
            for row, verdict in zip(shown, verdicts, strict=True)
        ]
        axes.barh(at, means, xerr=stds, color=colours, height=0.75, error_kw={"lw": 0.9})
        low, high = np.nanmin(means - stds), np.nanmax(means + stds)
        span = (high - low) or 1.0
        axes.set_xlim(max(0.0, low - 0.2 * span), high + 0.05 * span)
        axes.set_yticks(at, [row.method for row in shown], fontsize=8)
        axes.set_title(title, fontsize=9)
        axes.tick_params(axis="x", labelsize=7)
    figure.suptitle(
        "Mean and standard deviation over the seeds. Axes do not begin at 0. "
        "GradCraft (orange) leads blue, ties with grey, loses to red",
        fontsize=9,
    )
    figure.savefig(folder / "bars.png")
