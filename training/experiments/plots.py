"""Plots that every report is drawn with: bars, small multiples, heat maps, intervals, a labelled scatter.

Each function draws one PNG. `Figure` is used without pyplot: no global state, no window system.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from models.arrays import F64

# Shape suffixes: P points, C candidate spots, B occupied boxes.

BLUE: Final = "#2b6cb0"
ORANGE: Final = "#d9730d"
GREY: Final = "#8a8f98"
LIGHT: Final = "#d5d8dd"
RED: Final = "#b03a2e"
DPI: Final = 80
_FONT: Final = 7.5


class Series(NamedTuple):
    """One curve, or one set of bars, of a small panel."""

    x: Sequence[float]
    y: Sequence[float | None]
    color: str
    kind: Literal["line", "bar", "stem"] = "line"
    label: str = ""
    """For the legend, which the first panel shows if any of its series has a label."""


class Interval(NamedTuple):
    """One method's estimate and the interval around it."""

    name: str
    value: float
    ends: tuple[float, float]
    color: str


class Point(NamedTuple):
    """One method of a scatter plot."""

    name: str
    x: float
    y: float
    x_std: float


def bars(path: Path, panels: Mapping[str, Sequence[Interval]], title: str) -> None:
    """Draw horizontal bars with error bars, a panel for each metric; every panel has the same methods."""
    rows = len(next(iter(panels.values())))
    figure, grid = _grid(len(panels), (3.6, 0.23 * rows + 0.7), across=len(panels), share_y=True)
    for axes, (name, panel) in zip(grid, panels.items(), strict=True):
        y, value = np.arange(rows)[::-1], np.array([bar.value for bar in panel])
        ends_R2 = np.array([bar.ends for bar in panel])
        error = np.abs(ends_R2 - value[:, None]).T
        axes.barh(y, value, xerr=error, color=[bar.color for bar in panel], error_kw={"lw": 0.9})
        axes.set_yticks(y, [bar.name for bar in panel], fontsize=_FONT)
        low, high = float(np.nanmin(ends_R2)), float(np.nanmax(ends_R2))
        span = (high - low) or 1.0
        axes.set(xlim=(max(0.0, low - 0.2 * span), high + 0.05 * span), ylim=(-0.6, rows - 0.4))
        axes.set_title(name, fontsize=9)
    _save(figure, path, title)


def small_multiples(
    path: Path,
    panels: Mapping[str, Sequence[Series]],
    title: str,
    labels: tuple[str, str],
    *,
    size: tuple[float, float] = (2.3, 1.9),
    ticks: Sequence[str] = (),
    y_limits: tuple[float, float] | None = None,
    reference: Sequence[float] = (),
    shared_y: bool = True,
) -> None:
    """Draw one small panel for each method, all with the same axes.

    Args:
        path, panels, title, labels: the PNG, series by panel, its title, names of the x and the y axis.
        size: width and height of a panel, inches.
        ticks: names of x = 0, 1, 2, ...; numbers if empty.
        y_limits, shared_y: of the y axes.
        reference: where to draw horizontal lines.
    """
    figure, grid = _grid(len(panels), size, share_x=True, share_y=shared_y)
    for axes, (name, series) in zip(grid, panels.items(), strict=True):
        for level in reference:
            axes.axhline(level, color=GREY, lw=0.8)
        for one in series:
            _draw(axes, one)
        axes.set_title(name, fontsize=_FONT)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        if ticks:
            axes.set_xticks(range(len(ticks)), ticks, rotation=60, ha="right", fontsize=5)
        if y_limits is not None:
            axes.set_ylim(*y_limits)
    if any(one.label for one in next(iter(panels.values()))):
        grid[0].legend(fontsize=6, frameon=False)
    figure.supxlabel(labels[0], fontsize=9)
    figure.supylabel(labels[1], fontsize=9)
    _save(figure, path, title)


def heat_maps(
    path: Path,
    panels: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[Sequence[float]]]],
    title: str,
    labels: tuple[str, str],
) -> None:
    """Draw values in [0, 1] over a plane, a panel for each `(x, y, value[y][x])`."""
    figure, grid = _grid(len(panels), (2.5, 2.25), share_x=True, share_y=True)
    for axes, (name, (x, y, value)) in zip(grid, panels.items(), strict=True):
        mesh = axes.pcolormesh(x, y, value, vmin=0, vmax=1, shading="nearest")
        axes.set_title(name, fontsize=_FONT)
    figure.supxlabel(labels[0], fontsize=9)
    figure.supylabel(labels[1], fontsize=9)
    figure.colorbar(mesh, ax=grid, shrink=0.6, aspect=30)
    _save(figure, path, title)


def intervals(path: Path, panels: Mapping[str, Sequence[Interval]], title: str) -> None:
    """Draw estimates with their confidence intervals, a line for each name and a panel for each quantity."""
    longest = max(len({one.name for one in panel}) for panel in panels.values())
    figure, grid = _grid(len(panels), (3.4, 0.24 * longest + 0.7), across=4)
    for axes, (name, panel) in zip(grid, panels.items(), strict=True):
        names = list(dict.fromkeys(one.name for one in panel))[::-1]
        for one in panel:
            y = names.index(one.name)
            axes.plot(one.ends, [y, y], color=one.color, lw=3, alpha=0.5)
            axes.plot(one.value, y, "o", color=one.color, ms=4)
        if min(one.ends[0] for one in panel) <= 0 <= max(one.ends[1] for one in panel):
            axes.axvline(0.0, color=GREY, lw=0.8)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set_title(name, fontsize=_FONT)
    _save(figure, path, title)


def scatter(
    path: Path,
    points: Sequence[Point],
    frontier: Sequence[tuple[float, float]],
    highlight: str,
    labels: tuple[str, str],
    title: str,
) -> None:
    """Draw named points with their standard deviations, and a line through `frontier`."""
    figure, (axes,) = _grid(1, (9.0, 6.2))
    axes.plot([x for x, _ in frontier], [y for _, y in frontier], color=GREY, marker="x", ms=4, zorder=1)
    for p in points:
        color = ORANGE if p.name == highlight else BLUE
        axes.errorbar(p.x, p.y, xerr=p.x_std, color=color, lw=0.6, alpha=0.25, zorder=2)
        axes.scatter([p.x], [p.y], s=40, color=color, alpha=0.65, lw=0, zorder=3)
    axes.set(xlabel=labels[0], ylabel=labels[1])
    axes.margins(0.08)
    figure.suptitle(title, fontsize=10)
    _name_points(figure, axes, points)
    figure.savefig(path)


def free_spots(points_P2: F64, half_sizes_P2: F64, size_2: F64) -> F64:
    """Return where to center the names of P points so that no name covers another name or a point.

    One name after the other takes the nearest spot on rings around its point that covers least.

    Args:
        points_P2: the points, pixels.
        half_sizes_P2: half of each name's width and height, pixels.
        size_2: width and height of the picture, pixels: no name leaves it.

    Returns:
        `[P, 2]` centers of the names, pixels.
    """
    angle = np.pi / 2 + np.linspace(0, 2 * np.pi, 16, endpoint=False)  # above the point first
    circle_C2 = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    rings = np.arange(1.0, 9.0, 0.35)
    occupied_2B2 = np.stack([points_P2, np.full_like(points_P2, 5.0)])  # centers and half sizes
    for point, half in zip(points_P2, half_sizes_P2, strict=True):
        spots_C2 = np.concatenate([point + circle_C2 * (half + 6.0) * ring for ring in rings])
        spots_C2 = spots_C2.clip(half, np.maximum(half, size_2 - half))
        overlap_CB2 = half + occupied_2B2[1] - np.abs(spots_C2[:, None] - occupied_2B2[0])
        covered_C = overlap_CB2.clip(min=0.0).prod(axis=-1).sum(axis=-1)
        box_212 = np.stack([spots_C2[covered_C.argmin()], half])[:, None]
        occupied_2B2 = np.concatenate([occupied_2B2, box_212], axis=1)
    return cast(F64, occupied_2B2[0, len(points_P2) :])


def _name_points(figure: Figure, axes: Axes, points: Sequence[Point]) -> None:
    figure.draw_without_rendering()  # positions in pixels are known after this
    pixels = axes.transData.transform([(p.x, p.y) for p in points])
    half_sizes = np.array([(0.64 * len(p.name) + 0.8, 1.5) for p in points]) * _FONT * DPI / 144
    spots = axes.transData.inverted().transform(free_spots(pixels, half_sizes, np.array(figure.bbox.size)))
    arrow = {"arrowstyle": "-", "lw": 0.5, "color": GREY, "shrinkA": 0, "shrinkB": 0}
    for p, spot in zip(points, spots, strict=True):
        text = axes.annotate(p.name, (p.x, p.y), spot, size=_FONT, ha="center", va="center", arrowprops=arrow)
        text.set_in_layout(False)  # a name at the edge must not move the points


def _draw(axes: Axes, one: Series) -> None:
    y = np.array([np.nan if value is None else value for value in one.y], np.float64)
    if one.kind == "bar":
        width = 0.9 * (one.x[1] - one.x[0]) if len(one.x) > 1 else 0.9
        axes.bar(one.x, y, width=width, color=one.color, label=one.label)
    elif one.kind == "stem":
        axes.vlines(one.x, 0, y, color=one.color, lw=1, label=one.label)
    else:
        axes.plot(one.x, y, color=one.color, marker="o", ms=2.5, lw=1.1, label=one.label)


def _grid(
    panels: int,
    size: tuple[float, float],
    *,
    across: int = 5,
    share_x: bool = False,
    share_y: bool = False,
) -> tuple[Figure, list[Axes]]:
    """Return a figure and as many axes as there are panels, `across` in a row."""
    columns = min(across, panels)
    rows = -(-panels // columns)
    figure = Figure((size[0] * columns + 0.8, size[1] * rows + 0.9), dpi=DPI, layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, sharex=share_x, sharey=share_y).flat)
    for i, axes in enumerate(grid):
        axes.set_visible(i < panels)
        axes.tick_params(labelsize=7, labelbottom=not share_x or i + columns >= panels)
    return figure, grid[:panels]


def _save(figure: Figure, path: Path, title: str) -> None:
    figure.suptitle(title, fontsize=9)
    figure.savefig(path)
