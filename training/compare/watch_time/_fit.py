"""One job: a head on the encoder (or trees, or the median), and what its seconds are worth."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import numpy as np
import torch

from models.arrays import F32, F64, I64
from models.errors import BadInput
from training.compare._jobs import Job, Progress, Result, Work
from training.compare.watch_time._judge import Judge
from training.compare.watch_time._methods import METHODS, Method
from training.compare.watch_time._trees import features, fit_trees
from training.compare.watch_time._world import WatchTimeConfig, World, open_world
from training.encoders import FeedbackEncoder, batches_for, inputs_for, plain_names
from training.evaluation.predict import predict_seconds
from training.labels import Scale
from training.lda import LDA
from training.rankers import TwoObjectiveRanker
from training.train.rankers import RankerEpoch, best_epoch_count, fit_ranker
from training.train.run_config import new_encoder
from training.watch_time import DistributionHead

_TIMED: Final = 2048
"""Rows that the inference is timed on."""
_REPEATS: Final = 5


class _Fitted(NamedTuple):
    """What a method makes of the judged rows."""

    seconds: F32 | F64
    """`[R]`"""
    quantiles: F32 | None
    """`[R, 3]` of heads with a distribution."""
    parameters: int
    epochs: int
    microseconds: float | None
    """A row's inference with the encoder's, on one thread, features at hand."""
    more: dict[str, Any]


def prepare(data: Path, config: WatchTimeConfig) -> Work:
    """Read the log once; returns what does a job with it."""
    world = open_world(data, config)
    judge = Judge(world.log, world.known, world.test)
    methods = {method.name: method for method in METHODS}
    return lambda job, progress: _fit(world, judge, methods[job.method], config, job, progress)


def _fit(
    world: World, judge: Judge, method: Method, config: WatchTimeConfig, job: Job, progress: Progress
) -> Result:
    began = time.monotonic()
    if method.trees is not None:
        found = _trees(world, method, config, job.seed)
    elif method.head is None:
        middle = float(np.median(world.log.watch_time_s[world.known]))
        found = _Fitted(np.full(len(world.test), middle, np.float32), None, 1, 0, None, {})
    else:
        found = _neural(world, method, config, job.seed, progress)
    result: Result = {
        "figures": judge.figures(found.seconds),
        "values": {name: value.tolist() for name, value in judge.values(found.seconds).items()},
        "by_duration": judge.by_duration(found.seconds),
        "by_prediction": judge.by_prediction(found.seconds),
        "parameters": found.parameters,
        "epochs": found.epochs,
        "microseconds": found.microseconds,
        "seconds": time.monotonic() - began,
        **found.more,
    }
    if found.quantiles is not None:
        result["calibration"] = judge.calibration(found.quantiles)
    return result


def _encoder(world: World, config: WatchTimeConfig) -> FeedbackEncoder:
    dataset = world.dataset
    return new_encoder(config.encoder, world.vocabulary, dataset.profile_numbers, dataset.profile_categories)


def fit_head(
    world: World,
    method: Method,
    config: WatchTimeConfig,
    seed: int,
    progress: Progress,
    *,
    label: F32 | None = None,
) -> tuple[TwoObjectiveRanker, list[RankerEpoch]]:
    """A method's head on a fresh encoder, fitted on what is known and stopped on the early-stop days.

    With `label`, one for each known row, the interest head is fitted to it at `config.loop.interest`;
    without, watch time has the encoder for itself.
    """
    assert method.head is not None
    log, known = world.log, world.log.take(world.known)
    torch.manual_seed(seed)  # every head meets the same first encoder
    encoder = _encoder(world, config)
    head = method.head(config.encoder.width, config.lda.model_copy(update=dict(method.lda)))
    head.fit_tables(known, seed=seed)
    ranker = TwoObjectiveRanker(encoder, head, Scale())
    epochs = fit_ranker(
        ranker,
        log,
        world.known,
        np.zeros(len(world.known), np.float32) if label is None else label,
        config.loop if label is not None else config.loop.model_copy(update={"interest": 0.0}),
        seed=seed,
        stop_rows=world.stop,
        censored=world.dataset.censored(world.vocabulary),
        on_step=progress,
    )
    return ranker, epochs


def _neural(world: World, method: Method, config: WatchTimeConfig, seed: int, progress: Progress) -> _Fitted:
    ranker, epochs = fit_head(world, method, config, seed, progress)
    log, head = world.log, ranker.head
    seconds = predict_seconds(ranker, log, world.test, config.loop.sequence_length)
    if not np.isfinite(seconds).all():
        raise BadInput(f"{method.name} diverged with seed {seed}: its predictions are not all finite.")
    more: dict[str, Any] = {"curve": [epoch._asdict() for epoch in epochs]}
    if isinstance(head, LDA) and not method.ablation:
        more["anchors"] = {
            "edges_s": [edge for edge in head.groups.edges.tolist() if np.isfinite(edge)],
            "ratio": head.anchors.ratio.tolist(),
            "share": head.anchors.share.tolist(),
        }
    return _Fitted(
        seconds,
        _quantiles(ranker, world, config.loop.sequence_length)
        if isinstance(head, DistributionHead)
        else None,
        sum(p.numel() for p in ranker.parameters()) - sum(p.numel() for p in ranker.interest.parameters()),
        best_epoch_count(epochs),
        _microseconds(ranker, world, config.loop.sequence_length),
        more,
    )


def _quantiles(ranker: TwoObjectiveRanker, world: World, length: int) -> F32:
    """`[R, 3]` of the judged rows."""
    head = cast(DistributionHead, ranker.head)
    batches = batches_for(world.log, world.test, length, batch=_TIMED)
    with torch.no_grad():
        return np.concatenate([head.quantiles_s(*ranker.encoder(x))[:, 0].numpy() for x in batches])


def _microseconds(ranker: TwoObjectiveRanker, world: World, length: int) -> float:
    """The fastest of some runs over rows at hand, each with a history of its own."""
    x = inputs_for(world.log, world.test[:_TIMED], length)
    took = []
    with torch.no_grad():
        for _ in range(_REPEATS):
            began = time.perf_counter()
            ranker.seconds(x)
            took.append(time.perf_counter() - began)
    return min(took) / len(x.context_ids) * 1e6


def _trees(world: World, method: Method, config: WatchTimeConfig, seed: int) -> _Fitted:
    assert method.trees is not None
    encoder, log, length = _encoder(world, config), world.log, config.loop.sequence_length
    seen = encoder.fit_tables(log, world.known, world.dataset.censored(world.vocabulary))
    encoder.eval()

    def part(rows: I64, statistics: F32 | None) -> tuple[F32, F32]:
        return features(encoder, world, rows, length, statistics), log.watch_time_s[rows]

    names, categories = plain_names(world.dataset.profile_numbers, world.dataset.profile_categories)
    fitted = fit_trees(method.trees, part(world.known, seen), part(world.stop, None), categories, seed=seed)
    judged = features(encoder, world, world.test, length, None)
    took = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        fitted.seconds(judged[:_TIMED])
        took.append(time.perf_counter() - began)
    return _Fitted(
        fitted.seconds(judged),
        None,
        fitted.leaves,
        int(fitted.booster.num_trees()),
        min(took) / len(judged[:_TIMED]) * 1e6,
        {"gain": _gain(fitted.booster, names)},
    )


def _gain(booster: Any, names: Sequence[str]) -> Mapping[str, float]:
    """The ten features that the trees gained most by, as shares of the whole."""
    gain = np.asarray(booster.feature_importance("gain"), np.float64)
    order = np.argsort(-gain)[:10]
    return {names[i]: float(gain[i] / max(gain.sum(), 1e-9)) for i in order}
