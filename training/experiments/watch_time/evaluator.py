"""Figures and users' values over the windows of a rolling origin."""

# Shape suffixes: R rows of a window, U users of a window, V values (of users in windows).

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from models.arrays import F32, F64, I64
from training.evaluation.bootstrap import Measure
from training.evaluation.seconds import SecondsEvaluator
from training.experiments.data import ExperimentData
from training.experiments.results import encode
from training.experiments.watch_time.readouts import Distribution


class WindowScores(NamedTuple):
    """What was measured of one row of the table in one window."""

    figures: dict[str, float | None]
    values: dict[str, F64]
    """`[U]` each user's part in the figures that are compared."""


class WatchTimeEvaluator:
    """Predicted watch times on the windows of an experiment.

    Args:
        windows: oldest first.
    """

    def __init__(self, windows: Sequence[ExperimentData]) -> None:
        self.windows = tuple(windows)
        self.data = windows[-1]
        self.evaluators = [SecondsEvaluator(data.log, data.fitted, data.test) for data in windows]

    @property
    def users(self) -> I64:
        """`[V]`"""
        return np.concatenate([evaluator.users for evaluator in self.evaluators])

    @cached_property
    def measures(self) -> dict[str, Measure]:
        """The figures that are compared; windows are weighted by their rows."""
        parts = [evaluator.measures for evaluator in self.evaluators]
        return {
            name: Measure(
                measure.values, np.concatenate([part[name].weight for part in parts]), measure.of_mean
            )
            for name, measure in parts[0].items()
        }

    def scores(
        self,
        window: int,
        by_row: F32 | F64,
        by_request: F32 | F64,
        distribution: Distribution | None = None,
    ) -> WindowScores:
        """Measure predicted seconds of a window, and a distribution.

        Args:
            window: which one.
            by_row: `[R]` seconds of each row with the sequence before it.
            by_request: `[R]` of a user's rows as candidates of one request: the order within users.
            distribution: of `by_row`.
        """
        evaluator = self.evaluators[window]
        figures, values = evaluator.figures(by_row, by_request), evaluator.values(by_row, by_request)
        if distribution is not None:
            figures |= evaluator.distribution_figures(distribution.quantiles, distribution.crps)
            values |= evaluator.distribution_values(distribution.quantiles, distribution.crps)
        return WindowScores(figures, values)

    def join(self, windows: Sequence[WindowScores]) -> dict[str, Any]:
        """Return figures and values of all windows, for the result of a fit.

        A figure is the mean over the windows, weighted by their rows, of its square for RMSE; windows in
        which it is not defined are left out.
        """
        rows = np.array([len(evaluator.user) for evaluator in self.evaluators], np.float64)
        names = dict.fromkeys(name for scores in windows for name in scores.figures)
        figures = {name: _mean(name, [s.figures.get(name) for s in windows], rows) for name in names}
        values = {
            name: encode(np.concatenate([scores.values[name] for scores in windows]))
            for name in windows[0].values
        }
        each = {name: [scores.figures[name] for scores in windows] for name in values}
        return {"figures": figures, "values": values, "windows": each}

    def describe_window(self, rows: I64) -> dict[str, Any]:
        """Return mean and median watch time of rows of the last window's log."""
        return describe_window(self.data, rows)


def describe_window(data: ExperimentData, rows: I64) -> dict[str, Any]:
    """Return mean and median watch time of rows."""
    watched = data.log.watch_time_s[rows]
    return {"mean_watch_time_s": float(watched.mean()), "median_watch_time_s": float(np.median(watched))}


def _mean(name: str, figures: Sequence[float | None], rows_W: F64) -> float | None:
    known = [(figure, rows) for figure, rows in zip(figures, rows_W, strict=True) if figure is not None]
    if not known:
        return None
    value_W, weight_W = np.array(known).T
    if name == "rmse_s":
        return float(np.sqrt(np.average(np.square(value_W), weights=weight_W)))
    return float(np.average(value_W, weights=weight_W))
