"""The pictures of the label report: each function draws one, of numbers that it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.compare._panels import BLUE, DPI, GREY, LIGHT, ORANGE, VERDICTS, grid_of
from training.compare._place import spread_out

_FONT: Final = 8.0
"""Points, of the names on the front."""


class Point(NamedTuple):
    """One method on the front picture."""

    name: str
    x: float
    y: float
    x_std: float
    y_std: float
    size: float
    """Seconds; the area of its circle."""


class Bar(NamedTuple):
    """One method in one column."""

    name: str
    mean: float
    std: float
    verdict: str
    """`leads`, `ties`, `loses` of the reference, `reference`, or nothing."""


def draw_surfaces(path: Path, surfaces: Mapping[str, Mapping[str, Any]]) -> None:
    """A panel for each label maker: its label over duration and watch time."""
    panels = []
    for name, found in surfaces.items():
        liked = "liked" in found
        panels.append((f"{name}, no explicit feedback" if liked else name, found, "plain"))
        if liked:
            panels.append((f"{name}, with explicit feedback", found, "liked"))
    figure, grid = grid_of(len(panels), width=2.5, height=2.25)
    mesh = None
    for axes, (title, found, which) in zip(grid, panels, strict=True):
        d, w = found["duration_s"], found["watch_time_s"]
        mesh = axes.pcolormesh(d, w, found[which], vmin=0, vmax=1, cmap="viridis", shading="nearest")
        axes.plot([0, min(d[-1], w[-1])], [0, min(d[-1], w[-1])], color="white", lw=0.8, ls=":")
        axes.set_title(title.replace(", ", "\n"), fontsize=8)
        axes.set_xlim(0, d[-1])
        axes.set_ylim(0, w[-1])
    figure.supxlabel("duration, s", fontsize=9)
    figure.supylabel("watch time, s", fontsize=9)
    figure.suptitle("The label of an exposure, first seed (dotted: watched exactly to the end)", fontsize=10)
    assert mesh is not None
    figure.colorbar(mesh, ax=grid, label="label", shrink=0.6, aspect=30)
    figure.savefig(path)


def draw_histograms(
    path: Path, edges: Sequence[int], exposed: Sequence[int], shown: Mapping[str, Sequence[float]], k: int
) -> None:
    """A panel for each method: the durations it recommends, against those there were to choose from."""
    figure, grid = grid_of(len(shown), width=2.4, height=1.75)
    width = edges[1] - edges[0]
    left = np.array(edges)
    log = np.array(exposed) / max(sum(exposed), 1)
    for axes, (name, counts) in zip(grid, shown.items(), strict=True):
        share = np.array(counts) / max(sum(counts), 1)
        axes.bar(left, share, width=width * 0.9, align="edge", color=BLUE)
        axes.stairs(log, [*edges, edges[-1] + width], color=ORANGE, lw=1.2)
        axes.set_title(name, fontsize=8)
        axes.set_yscale("log")
    figure.supxlabel(f"duration, s ({width} s a bar, the last one is {edges[-1]} s and longer)", fontsize=9)
    figure.supylabel("share, logarithmic", fontsize=9)
    figure.suptitle(
        f"Durations of the first {k} places; orange: of all exposures of the same users", fontsize=10
    )
    figure.savefig(path)


def draw_curves(path: Path, seeds: Sequence[Sequence[Mapping[str, Any]]], columns: Mapping[str, str]) -> None:
    """A panel for each objective of LabelCraft over its epochs, a line a seed.

    Args:
        path: the picture.
        seeds: the curves of each seed, an entry an epoch.
        columns: key of an entry -> title of its panel.
    """
    figure = Figure(figsize=(2.9 * len(columns) + 0.4, 2.9), dpi=DPI, layout="constrained")
    grid = figure.subplots(1, len(columns), squeeze=False, sharex=True)
    for axes, (key, title) in zip(grid.flat, columns.items(), strict=True):
        for i, curve in enumerate(seeds):
            known = [(entry["epoch"] + 1, entry[key]) for entry in curve if entry.get(key) is not None]
            if known:
                axes.plot(*zip(*known, strict=True), color=f"C{i}", lw=1.1, marker=".", ms=3)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("epoch", fontsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.tick_params(labelsize=7)
        axes.grid(color=LIGHT, lw=0.5)
    figure.suptitle(f"LabelCraft while it learns, {len(seeds)} seed{'s' * (len(seeds) > 1)}", fontsize=10)
    figure.savefig(path)


def draw_front(
    path: Path, points: Sequence[Point], front: Sequence[Point], highlight: str, labels: Sequence[str]
) -> None:
    """Every method as a point, and the line that fixed mixes of two of them make.

    Args:
        path: the picture.
        points: the methods.
        front: the mixes in order, named by their a; may be empty.
        highlight: the point that is drawn in another colour.
        labels: what x, y and the circles' size are.
    """
    figure = Figure(figsize=(9.5, 6.6), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(color=LIGHT, lw=0.5)
    axes.plot([p.x for p in front], [p.y for p in front], color=GREY, lw=1.5, marker="x", ms=4, zorder=1)
    for p in points:
        colour = ORANGE if p.name == highlight else BLUE
        axes.errorbar(p.x, p.y, p.y_std, p.x_std, color=colour, lw=0.6, alpha=0.25, zorder=2)
    sizes = [p.size for p in points]
    low, high = min(sizes), max(sizes)
    axes.scatter(
        [p.x for p in points],
        [p.y for p in points],
        s=[25 + 190 * (size - low) / ((high - low) or 1.0) for size in sizes],
        color=[ORANGE if p.name == highlight else BLUE for p in points],
        alpha=0.65,
        lw=0,
        zorder=3,
    )
    axes.set_xlabel(f"{labels[0]}, mean over the seeds (cross: standard deviation)")
    axes.set_ylabel(labels[1])
    mixed = "; grey: fixed mixes (1 − a) wt + a ef of two recommenders" if front else ""
    axes.set_title(f"Circle: {labels[2]}, from {low:.0f} to {high:.0f}{mixed}", fontsize=10)
    axes.margins(0.08)
    _name(figure, axes, points, [front[0], front[len(front) // 2], front[-1]] if front else [], highlight)
    figure.savefig(path)


def draw_bars(path: Path, columns: Mapping[str, Sequence[Bar]]) -> None:
    """A panel for each figure, a bar for each method with its standard deviation over the seeds."""
    longest = max(len(bars) for bars in columns.values())
    figure = Figure(figsize=(3.4 * len(columns) + 1.2, 0.21 * longest + 1.3), dpi=DPI, layout="constrained")
    colours = {"reference": ORANGE, **VERDICTS}
    grid = figure.subplots(1, len(columns), squeeze=False, sharey=True)
    for axes, (title, bars) in zip(grid.flat, columns.items(), strict=True):
        at = np.arange(len(bars))[::-1]
        axes.barh(
            at,
            [bar.mean for bar in bars],
            xerr=[bar.std for bar in bars],
            color=[colours.get(bar.verdict, LIGHT) for bar in bars],
            error_kw={"lw": 0.9, "ecolor": "#333333"},
            height=0.75,
        )
        axes.set_yticks(at, [bar.name for bar in bars], fontsize=8)
        low = min(bar.mean - bar.std for bar in bars)
        high = max(bar.mean + bar.std for bar in bars)
        span = (high - low) or 0.1 * abs(high) or 1.0
        axes.set_xlim(max(0.0, low - 0.25 * span), high + 0.05 * span)
        axes.set_title(title, fontsize=9)
        axes.tick_params(axis="x", labelsize=7)
        axes.set_ylim(-0.6, len(bars) - 0.4)
    figure.suptitle(
        "Mean and standard deviation over the seeds. Axes do not begin at 0. "
        "LabelCraft (orange) leads blue, ties with grey, loses to red",
        fontsize=9,
    )
    figure.savefig(path)


def _name(figure: Figure, axes: Axes, points: Sequence[Point], ends: Sequence[Point], highlight: str) -> None:
    """Write each point's name beside it, without names over names."""
    figure.draw_without_rendering()  # the places of points on the page are known after this
    named = [*points, *(p._replace(name=f"a = {p.name}") for p in ends)]
    at = axes.transData.transform([(p.x, p.y) for p in named])
    size = np.array([(0.64 * len(p.name) + 0.8, 1.5) for p in named]) * _FONT * DPI / 72
    colours = {highlight: ORANGE} | {p.name: GREY for p in named[len(points) :]}
    places = axes.transData.inverted().transform(spread_out(at, size))
    for p, (x, y) in zip(named, places, strict=True):
        axes.annotate(
            p.name,
            (p.x, p.y),
            (x, y),
            fontsize=_FONT,
            ha="center",
            va="center",
            color=colours.get(p.name, "#1f2937"),
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": GREY, "shrinkA": 0, "shrinkB": 0},
            zorder=4,
        ).set_in_layout(False)  # a name at the edge must not move the points it was placed by
