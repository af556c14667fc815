"""What a fit predicts of rows, and the seconds that are read off it."""

# Shape suffixes: R rows, K parts of a distribution.

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.arrays import F32, F64, I64
from training.data import Interactions
from training.encoders import HistoryAt, batches_for
from training.experiments.watch_time.methods import Readout
from training.rankers import TwoObjectiveRanker
from training.trees import TreesConfig, fit_trees
from training.watch_time import QUANTILES, DistributionHead

_BINS: Final = 40
"""Of the map to medians."""
_SUMMARY_TREES: Final = TreesConfig(leaves=15, rows_per_leaf=200)
"""Small ones: there are some thousand early-stop rows."""


class Distribution(NamedTuple):
    """What is read off predicted distributions of the watch time, s."""

    quantiles: F32
    """`[R, 3]` at `QUANTILES`"""
    mean: F32
    """`[R]`"""
    states: F32
    """`[R, 3]` probabilities of `STATES`"""
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
                parts.append((found.seconds, found.quantiles_s, found.mean_s, found.states, crps))
            else:
                parts.append((head.seconds(state, duration),))
    seconds, *distribution = (_joined(columns) for columns in zip(*parts, strict=True))
    return Predicted(seconds, Distribution(*distribution) if distribution else None)


def _joined(batches: tuple[Tensor, ...]) -> F32:
    out: F32 = torch.cat([batch[:, 0] for batch in batches]).numpy()
    return out


Learned = Callable[[Predicted, F32], F64]
"""Seconds of rows by their predictions and durations, learned from rows that nothing was fitted on."""


def read(
    predicted: Predicted,
    readout: Readout,
    duration_R: F32,
    learned: Mapping[Readout, Learned] = MappingProxyType({}),
) -> F32 | F64:
    """Return `[R]` the seconds that a row of the table reads off predictions.

    Args:
        predicted: what a fit predicts; with a distribution for its median and mean.
        readout: which seconds.
        duration_R: of the videos, s.
        learned: those of `LEARNED`, as `learn` returns them.
    """
    if readout == "point":
        return predicted.seconds
    if readout in learned:
        return learned[readout](predicted, duration_R)
    assert predicted.distribution is not None
    quantiles, mean, *_ = predicted.distribution
    return mean if readout == "mean" else quantiles[:, QUANTILES.index(0.5)]


def fit_median_map(predicted: Predicted, duration_R: F32, watched_R: F32) -> Learned:
    """Return the rising map from predictions to the medians of what was watched after predictions alike.

    Rows are cut into bins by their prediction; between the middles of bins the map is linear. Monotone, so
    no order is learned here.

    Args:
        predicted: of rows that nothing was fitted on.
        duration_R: of their videos, s; unused.
        watched_R: what was watched, s.
    """
    seconds_R = predicted.seconds
    bins = np.array_split(np.argsort(seconds_R, kind="stable"), min(_BINS, len(seconds_R)))
    middle = np.array([np.median(seconds_R[rows]) for rows in bins], np.float64)
    median = np.maximum.accumulate([np.median(watched_R[rows]) for rows in bins]).astype(np.float64)
    middle, first = np.unique(middle, return_index=True)
    return lambda found, _: np.interp(found.seconds, middle, median[first])


def fit_summary_trees(predicted: Predicted, duration_R: F32, watched_R: F32) -> Learned:
    """Return small boosted trees of the absolute error on what summarises a predicted distribution: the
    answered seconds, mean, quantiles, states and the duration.

    Every fifth row stops the trees and is not fitted on.

    Source: the readouts of DSI (arXiv 2609.28383), which are fitted on a served summary of states and event
    times; the summary is ours.

    Args:
        predicted: of rows that nothing was fitted on, with a distribution.
        duration_R: of their videos, s.
        watched_R: what was watched, s.
    """
    summary_RF, stop_R = _summary(predicted, duration_R), np.arange(len(watched_R)) % 5 == 0
    train, stop = ((summary_RF[rows], watched_R[rows]) for rows in (~stop_R, stop_R))
    trees = fit_trees("l1", train, stop, [], _SUMMARY_TREES, seed=0)
    return lambda found, duration: trees.seconds(_summary(found, duration))


LEARNED: Final[Mapping[Readout, Callable[[Predicted, F32, F32], Learned]]] = MappingProxyType(
    {"median map": fit_median_map, "summary": fit_summary_trees}
)
"""How each is learned from predictions, durations and watch times of rows that nothing was fitted on."""


def _summary(predicted: Predicted, duration_R: F32) -> F32:
    """`[R, F]`"""
    assert predicted.distribution is not None
    quantiles, mean, states, _ = predicted.distribution
    columns = (predicted.seconds, mean, *quantiles.T, *states.T, duration_R)
    return np.stack(columns, axis=1, dtype=np.float32)
