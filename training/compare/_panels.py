"""What all pictures of a report share: colours, and panels side by side."""

from __future__ import annotations

from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# `Figure` without pyplot: no global state, no window system, and PNG is drawn by Agg.

BLUE: Final = "#2b6cb0"
ORANGE: Final = "#d9730d"
GREY: Final = "#8a8f98"
LIGHT: Final = "#d5d8dd"
RED: Final = "#b03a2e"
DPI: Final = 80
VERDICTS: Final = {"leads": BLUE, "loses": RED, "ties": GREY}
"""Of bars: the reference leads the row, loses to it, or ties with it."""


def grid_of(panels: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with this many panels, five in a row, that share their axes; sizes of a panel in inches."""
    columns = min(5, panels)
    rows = -(-panels // columns)
    size = (width * columns + 0.8, height * rows + 0.9)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for i, axes in enumerate(grid.flat):
        axes.set_visible(i < panels)
        # Where the last row is not full, the panel above has the column's ticks.
        axes.tick_params(labelsize=7, labelbottom=i + columns >= panels)
    return figure, list(grid.flat[:panels])
