"""What a fit predicts of rows, and the seconds that are read off it."""

# Shape suffixes: R rows, K parts of a distribution.

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.arrays import F32, F64, I64
from training.data import Interactions
from training.encoders import HistoryAt, batches_for
from training.experiments.watch_time.methods import Readout
from training.rankers import TwoObjectiveRanker
from training.watch_time import QUANTILES, DistributionHead

_BINS: Final = 40
"""Of the map to medians."""


class Distribution(NamedTuple):
    """What is read off predicted distributions of the watch time, s."""

    quantiles: F32
    """`[R, 3]` at `QUANTILES`"""
    mean: F32
    """`[R]`"""
    crps: F32 | F64
    """`[R]` ranked probability score of the whole distribution"""


class Predicted(NamedTuple):
    """Predicted watch times of some rows, s."""

    seconds: F32 | F64
    """`[R]` what the fit answers"""
    distribution: Distribution | None = None


def predict(
    ranker: TwoObjectiveRanker, log: Interactions, rows: I64, length: int, *, history_at: HistoryAt = "row"
) -> Predicted:
    """Run a ranker over rows of a log, whatever its head, in one of the two ways of `HistoryAt`."""
    ranker.eval()
    head = ranker.head
    parts: list[tuple[Tensor, ...]] = []
    watched = torch.from_numpy(log.watch_time_s[rows])
    with torch.no_grad():
        for x in batches_for(log, rows, length, history_at=history_at):
            state, duration = ranker.encoder(x)
            watched_B, watched = watched[: len(duration)], watched[len(duration) :]
            if isinstance(head, DistributionHead):
                found = head.predict(state, duration)
                crps = head.crps_s(found.weights[:, 0], duration[:, 0], watched_B)[:, None]
                parts.append((found.seconds, found.quantiles_s, found.mean_s, crps))
            else:
                parts.append((head.seconds(state, duration),))
    seconds, *distribution = (_joined(columns) for columns in zip(*parts, strict=True))
    return Predicted(seconds, Distribution(*distribution) if distribution else None)


def _joined(batches: tuple[Tensor, ...]) -> F32:
    out: F32 = torch.cat([batch[:, 0] for batch in batches]).numpy()
    return out


def read(
    predicted: Predicted, readout: Readout, median_map: Callable[[F32 | F64], F64] | None = None
) -> F32 | F64:
    """Return `[R]` the seconds that a row of the table reads off predictions.

    Args:
        predicted: what a fit predicts; with a distribution for its median and mean.
        readout: which seconds.
        median_map: see `fit_median_map`; of that readout.
    """
    if readout == "point":
        return predicted.seconds
    if readout == "median map":
        assert median_map is not None
        return median_map(predicted.seconds)
    assert predicted.distribution is not None
    quantiles, mean, *_ = predicted.distribution
    return mean if readout == "mean" else quantiles[:, QUANTILES.index(0.5)]


def fit_median_map(seconds_R: F32 | F64, watched_R: F32) -> Callable[[F32 | F64], F64]:
    """Return the rising map from predictions to the medians of what was watched after predictions alike.

    Rows are cut into bins by their prediction; between the middles of bins the map is linear. Monotone, so
    no order is learned here.

    Args:
        seconds_R: predictions of rows that nothing was fitted on.
        watched_R: what was watched, s.
    """
    bins = np.array_split(np.argsort(seconds_R, kind="stable"), min(_BINS, len(seconds_R)))
    middle = np.array([np.median(seconds_R[rows]) for rows in bins], np.float64)
    median = np.maximum.accumulate([np.median(watched_R[rows]) for rows in bins]).astype(np.float64)
    middle, first = np.unique(middle, return_index=True)
    return lambda predicted: np.interp(predicted, middle, median[first])
