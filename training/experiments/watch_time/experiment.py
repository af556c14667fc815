"""`compare watch-time` as an experiment: fits of every window, rows that are read off them, sections."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.errors import BadInput
from training.experiments.data import dataset_summary
from training.experiments.engine import Experiment, Fits, medians
from training.experiments.jobs import Progress, Result
from training.experiments.results import Row
from training.experiments.watch_time.config import WatchTimeConfig
from training.experiments.watch_time.evaluator import WatchTimeEvaluator, WindowScores, describe_window
from training.experiments.watch_time.fits import Fitted, fit_window
from training.experiments.watch_time.methods import FITS, METHODS, Method, rows_of
from training.experiments.watch_time.readouts import LEARNED, read
from training.experiments.watch_time.windows import load_windows

DRAWN: Final = ("by_duration", "by_prediction", "calibration")
"""What a row has of its own for the pictures."""


def load_evaluator(folder: Path, config: WatchTimeConfig) -> WatchTimeEvaluator:
    """Read a log and cut it into the windows of the rolling origin."""
    return WatchTimeEvaluator(load_windows(folder, config))


def fit_method(
    evaluator: WatchTimeEvaluator, name: str, config: WatchTimeConfig, seed: int, progress: Progress
) -> Result:
    """Fit on every window in turn, and measure every row of the table that is read off the fit."""
    started, windows = time.monotonic(), evaluator.windows
    scores: dict[str, list[WindowScores]] = {row.name: [] for row in rows_of(name)}
    drawn: dict[str, dict[str, Any]] = {}
    epochs = []
    for index, data in enumerate(windows):
        fitted = fit_window(
            data,
            FITS[name],
            config,
            seed,
            lambda share, index=index: progress((index + share) / len(windows)),  # type: ignore[misc]  # default of a loop
        )
        epochs.append(fitted.stop.epochs)
        for row, (found, figures) in _measure(evaluator, index, name, fitted, seed).items():
            scores[row].append(found)
            drawn[row] = figures
    return {
        "readouts": {row: evaluator.join(found) | drawn[row] for row, found in scores.items()},
        "parameters": fitted.parameters,
        "epochs": float(np.mean(epochs)),
        "microseconds": fitted.row_us(),
        "seconds": time.monotonic() - started,
        **fitted.facts,
    }


def _measure(
    evaluator: WatchTimeEvaluator, window: int, name: str, fitted: Fitted, seed: int
) -> dict[str, tuple[WindowScores, dict[str, Any]]]:
    """Return by row its scores on a window, and what is drawn of it.

    The distribution is measured once, with the first row that is read off the fit.
    """
    data, seconds = evaluator.windows[window], evaluator.evaluators[window]
    by_row, by_request = fitted.predict(data.test, "row"), fitted.predict(data.test, "request")
    if not all(np.isfinite(predicted.seconds).all() for predicted in (by_row, by_request)):
        raise BadInput(f"{name} diverged with seed {seed}: its predictions are not all finite.")
    rows = rows_of(name)
    log, duration_R = data.log, data.log.duration_s[data.test]
    learned = {}
    if any(row.readout in LEARNED for row in rows):
        stop = fitted.predict(data.stop, "row"), log.duration_s[data.stop], log.watch_time_s[data.stop]
        learned = {row.readout: LEARNED[row.readout](*stop) for row in rows if row.readout in LEARNED}
    measured = {}
    for row in rows:
        answer, in_request = (
            read(predicted, row.readout, duration_R, learned) for predicted in (by_row, by_request)
        )
        distribution = by_row.distribution if row is rows[0] else None
        drawn: dict[str, Any] = {
            "by_duration": seconds.by_duration(answer),
            "by_prediction": seconds.by_prediction(answer),
        }
        if distribution is not None:
            drawn["calibration"] = seconds.calibration(distribution.quantiles)
        measured[row.name] = evaluator.scores(window, answer, in_request, distribution), drawn
    return measured


def describe_fits(method: Method, fits: Sequence[Result]) -> dict[str, Any]:
    """Return costs as medians over the seeds, means of each window, and what figures are drawn from, of the
    last window of the first seed."""
    first = method.name == rows_of(method.fit)[0].name
    own = ("anchors", "gain", "curve") if first else ()
    drawn = {name: fits[0][name] for name in (*DRAWN, *own) if fits and name in fits[0]}
    windows = {
        figure: [_mean([fit["windows"][figure][w] for fit in fits]) for w in range(len(each))]
        for figure, each in (fits[0]["windows"] if fits else {}).items()
    }
    costs = medians(fits, ("parameters", "epochs", "microseconds", "seconds")) if fits else {}
    return {
        "fit": method.fit,
        "paper": method.paper,
        "ablation": method.ablation,
        "windows": windows,
        **costs,
        **drawn,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def sections(
    evaluator: WatchTimeEvaluator,
    config: WatchTimeConfig,
    methods: Sequence[Method],
    rows: Sequence[Row],
    fits: Fits,
) -> dict[str, Any]:
    """Return days, rows and users of every window."""
    return {
        "windows": [
            dataset_summary(data, partial(describe_window, data))["windows"] for data in evaluator.windows
        ]
    }


WATCH_TIME: Final = Experiment(
    name="watch-time",
    config=WatchTimeConfig,
    methods=METHODS,
    reference="lda",
    references={"rmse_s": "lda mean"},
    load=load_evaluator,
    fit=fit_method,
    describe_fits=describe_fits,
    sections=sections,
    columns=(
        ("mae_s", "MAE, s", 3),
        ("rmse_s", "RMSE, s", 3),
        ("xauc", "XAUC", 4),
        ("xgauc", "XGAUC", 4),
        ("crps", "CRPS, s", 3),
    ),
)
