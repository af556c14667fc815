"""A head or boosted trees fitted on one window: what is known of the fit, and what it predicts."""

# Shape suffixes: R rows.

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from pydantic import ValidationError

from models.arrays import F32, I64
from models.errors import BadInput
from models.metrics import mae_s, rmse_s, row_crps, xauc
from training.config import describe_first_error, merged
from training.encoders import HistoryAt, inputs_for, plain_names
from training.experiments.data import ExperimentData
from training.experiments.jobs import Progress
from training.experiments.watch_time.config import Hyperparameters, WatchTimeConfig
from training.experiments.watch_time.methods import Error, Fit
from training.experiments.watch_time.rank_loss import with_rank_loss
from training.experiments.watch_time.readouts import Distribution, Predicted, predict
from training.labels import Scale
from training.lda import LDA
from training.rankers import TwoObjectiveRanker
from training.train.rankers import RankerEpoch, best_epoch_count, fit_ranker
from training.trees import features, fit_trees
from training.watch_time import QUANTILES, state_shares

MOST_RATIO: Final = 2.5
"""Watch ratio at which the histograms of anchors end."""
_TIMED_ROWS: Final = 2048
_REPEATS: Final = 5


class StopFigures(NamedTuple):
    """Figures of the early-stop rows at the epoch that was kept."""

    error: float
    """Of `Fit.error`."""
    mae_s: float
    xauc: float
    epochs: int
    """Passes over the rows, or trees."""


@dataclass(frozen=True)
class Fitted:
    """A fit on one window."""

    predict: Callable[[I64, HistoryAt], Predicted]
    stop: StopFigures
    parameters: int
    row_us: Callable[[], float | None]
    """Measures a row's inference on this thread, features at hand."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What the report draws besides."""


def fit_window(
    data: ExperimentData, fit: Fit, config: WatchTimeConfig, seed: int, progress: Progress
) -> Fitted:
    """Fit on a window's rows, and stop on its early-stop days.

    Raises:
        BadInput: the fit diverged, or hyperparameters that were chosen for it are none of its own.
    """
    if fit.trees is not None:
        return _fit_trees(data, fit, config, seed)
    if fit.head is None:
        return _fit_constant(data)
    ranker, epochs = fit_head(data, fit, config, seed, progress)
    length, head = config.loop.sequence_length, ranker.head
    kept = epochs[best_epoch_count(epochs) - 1]
    x = inputs_for(data.log, data.test[:_TIMED_ROWS], length)
    interest = sum(p.numel() for p in ranker.interest.parameters())
    facts: dict[str, Any] = {"curve": [epoch._asdict() for epoch in epochs]}
    if isinstance(head, LDA) and not fit.changes:
        facts["anchors"] = _describe_anchors(head, data)
    return Fitted(
        lambda rows, at: predict(ranker, data.log, rows, length, history_at=at),
        StopFigures(kept.stop_error, kept.stop_mae_s or 0.0, kept.stop_xauc or 0.0, best_epoch_count(epochs)),
        sum(p.numel() for p in ranker.parameters()) - interest,
        lambda: _row_us(lambda: ranker.seconds(x), len(x.context_ids)),
        facts,
    )


def fit_head(
    data: ExperimentData,
    fit: Fit,
    config: WatchTimeConfig,
    seed: int,
    progress: Progress,
    *,
    label: F32 | None = None,
) -> tuple[TwoObjectiveRanker, list[RankerEpoch]]:
    """Fit a head on a new encoder, and stop by its own error on the early-stop days.

    Args:
        data: the log.
        fit: one with a head.
        config: encoder, loop, LDA, and what was chosen for the fit.
        seed: the first encoder of a seed is the same for every head.
        progress: called with the finished share.
        label: one for each fitted row, which the interest head is fitted to at `config.loop.interest`;
            without, watch time has the encoder alone.

    Raises:
        BadInput: the fit diverged, or hyperparameters that were chosen for it are none of its own.
    """
    assert fit.head is not None
    log, own = data.log, config.chosen.get(fit.searched, Hyperparameters())
    try:
        encoder_config, loop = merged(config.encoder, own.encoder), merged(config.loop, own.loop)
        head_config = merged(config.lda if fit.config is None else fit.config, own.head, fit.changes)
    except ValidationError as e:
        raise BadInput(describe_first_error(e, f"what was chosen for {fit.name!r}")) from e
    torch.manual_seed(seed)
    encoder = data.new_encoder(encoder_config)
    head = with_rank_loss(fit.head(encoder_config.width, head_config), own.rank)
    head.fit_tables(log.take(data.fitted), seed=seed)
    ranker = TwoObjectiveRanker(encoder, head, Scale())
    epochs = fit_ranker(
        ranker,
        log,
        data.fitted,
        np.zeros(len(data.fitted), np.float32) if label is None else label,
        loop if label is not None else loop.model_copy(update={"interest": 0.0}),
        seed=seed,
        stop_rows=data.stop,
        stop_error=partial(_stop_error, fit.error, data, loop.sequence_length),
        censored=data.dataset.censored(data.vocabulary),
        on_step=progress,
    )
    return ranker, epochs


def _stop_error(
    error: Error, data: ExperimentData, length: int, ranker: TwoObjectiveRanker, seconds_R: F32
) -> float:
    found = predict(ranker, data.log, data.stop, length) if error == "crps" else Predicted(seconds_R)
    return error_of(error, found, data.log.watch_time_s[data.stop])


def error_of(error: Error, predicted: Predicted, watched_R: F32) -> float:
    """Return the error that a fit is stopped and searched by; infinite where it is not defined."""
    if not np.isfinite(predicted.seconds).all():
        return np.inf
    if error == "crps":
        assert predicted.distribution is not None
        return float(predicted.distribution.crps.mean())
    found = {"mae_s": mae_s, "rmse_s": rmse_s}[error](predicted.seconds, watched_R)
    return np.inf if found is None else found


def _fit_trees(data: ExperimentData, fit: Fit, config: WatchTimeConfig, seed: int) -> Fitted:
    assert fit.trees is not None
    own = config.chosen.get(fit.searched, Hyperparameters())
    try:
        trees_config = merged(config.trees, own.trees)
    except ValidationError as e:
        raise BadInput(describe_first_error(e, f"what was chosen for {fit.name!r}")) from e
    encoder, log, length = data.new_encoder(config.encoder), data.log, config.loop.sequence_length
    seen = encoder.fit_tables(log, data.fitted, data.dataset.censored(data.vocabulary))
    encoder.eval()
    declared = data.dataset
    names, categories = plain_names(
        declared.profile_numbers, declared.profile_categories, declared.signals, declared.video_features
    )
    train = features(encoder, log, data.fitted, length, seen)
    stop = features(encoder, log, data.stop, length)
    watched = log.watch_time_s
    trees = fit_trees(
        fit.trees,
        (train, watched[data.fitted]),
        (stop, watched[data.stop]),
        categories,
        trees_config,
        seed=seed,
    )
    stop_s, timed = trees.seconds(stop), features(encoder, log, data.test[:_TIMED_ROWS], length)
    return Fitted(
        lambda rows, at: Predicted(trees.seconds(features(encoder, log, rows, length, history_at=at))),
        StopFigures(
            error_of(fit.error, Predicted(stop_s), watched[data.stop]),
            mae_s(stop_s, watched[data.stop]) or 0.0,
            xauc(stop_s, watched[data.stop]) or 0.0,
            int(trees.booster.num_trees()),
        ),
        trees.leaves,
        lambda: _row_us(lambda: trees.seconds(timed), len(timed)),
        {"gain": trees.gain(names)},
    )


def _fit_constant(data: ExperimentData) -> Fitted:
    """The distribution of the train days, the same for every row."""
    watched = data.log.watch_time_s[data.fitted]
    levels = np.linspace(0.005, 0.995, 100)
    values = np.quantile(watched, levels)
    duration = torch.from_numpy(data.log.duration_s[data.fitted])
    shares = state_shares(torch.from_numpy(watched) / duration, duration).numpy()

    def predicted(rows: I64, _: HistoryAt) -> Predicted:
        every = np.ones((len(rows), 1), np.float32)
        distribution = Distribution(
            every * np.quantile(watched, QUANTILES).astype(np.float32),
            every[:, 0] * watched.mean(),
            every * shares,
            row_crps(every / len(levels) * np.ones(len(levels)), every * values, data.log.watch_time_s[rows]),
        )
        return Predicted(distribution.quantiles[:, 1], distribution)

    return Fitted(predicted, StopFigures(0.0, 0.0, 0.5, 0), 1, lambda: None)


def _describe_anchors(head: LDA, data: ExperimentData) -> dict[str, Any]:
    """Return each duration group's anchors, and the density of watch ratios that they describe."""
    edges = [edge for edge in head.groups.edges.tolist() if np.isfinite(edge)]
    duration, watched = data.log.duration_s[data.fitted], data.log.watch_time_s[data.fitted]
    group, ratio = np.searchsorted(edges, duration, side="right"), np.minimum(watched / duration, MOST_RATIO)
    bins = np.linspace(0, MOST_RATIO, 51)
    counts = [np.histogram(ratio[group == g], bins)[0] for g in range(len(head.anchors.ratio))]
    density = [(count / max(count.sum(), 1) / bins[1]).tolist() for count in counts]
    anchors = {"ratio": head.anchors.ratio.tolist(), "share": head.anchors.share.tolist()}
    return {"edges_s": edges, **anchors, "histogram": density}


def _row_us(run: Callable[[], object], rows: int) -> float:
    """Return a row's inference on this thread, the fastest of some runs, µs."""
    seconds = []
    with torch.no_grad():
        for _ in range(_REPEATS):
            started = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - started)
    return min(seconds) / rows * 1e6
