"""One job: the ranker of all objectives under one balancer (or a ranker each), and what it answers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.arrays import F32
from models.errors import BadInput
from training.balance import Balancer
from training.compare._jobs import Progress, Result, Work
from training.compare.objectives._judge import Judge
from training.compare.objectives._methods import METHODS, Method
from training.compare.objectives._world import CompareObjectivesConfig, World, open_world
from training.encoders import HistoryAt
from training.evaluation.predict import predict_objectives
from training.labels import Scale
from training.rankers import NAMES, WATCH_TIME, MultiObjectiveRanker
from training.train.rankers import ObjectivesEpoch, best_epoch_count, calibrate, fit_objectives
from training.train.run_config import new_encoder
from training.watch_time import VR

ALL = (WATCH_TIME, *NAMES)


def prepare(data: Path, config: CompareObjectivesConfig) -> Work:
    """Read the log once; returns what does a job with it."""
    world = open_world(data, config)
    judge = Judge(world.log, world.test)
    methods = {method.name: method for method in METHODS}
    return lambda job, progress: _fit(world, judge, methods[job.method], config, job.seed, progress)


def fresh_ranker(
    world: World, config: CompareObjectivesConfig, seed: int, objectives: tuple[str, ...] = ALL
) -> MultiObjectiveRanker:
    """An unfitted ranker; every method meets the same first encoder of a seed."""
    dataset = world.dataset
    torch.manual_seed(seed)
    encoder = new_encoder(
        config.encoder, world.vocabulary, dataset.profile_numbers, dataset.profile_categories
    )
    head = VR(config.objectives.expert, config.watch_time).fit_tables(world.log.take(world.known), seed=seed)
    return MultiObjectiveRanker(encoder, head, Scale(), config.objectives, objectives)


def _fit(
    world: World, judge: Judge, method: Method, config: CompareObjectivesConfig, seed: int, progress: Progress
) -> Result:
    began = time.monotonic()
    cpu = time.process_time()
    parts = [(name,) for name in ALL] if method.alone else [ALL]
    raw: dict[str, F32] = {}
    calibrated: dict[str, F32] = {}
    together: dict[str, F32] = {}
    more: dict[str, Any] = {}
    parameters = 0
    for i, part in enumerate(parts):
        ranker = fresh_ranker(world, config, seed, part)
        epochs = _fit_one(
            world,
            ranker,
            method.balancer(config.objectives) if method.balancer else None,
            config,
            seed,
            lambda share, i=i: progress((i + share) / len(parts)),  # type: ignore[misc]  # a default, as it should be
        )
        parameters += sum(p.numel() for p in ranker.parameters())
        raw |= _scores(world, ranker, config)
        calibrate(ranker, world.log, world.stop, config.loop.sequence_length)
        calibrated |= _scores(world, ranker, config)
        together |= _scores(world, ranker, config, history_at="request")
        if not method.alone:
            more["curve"] = [epoch._asdict() for epoch in epochs]
            more["epochs"] = best_epoch_count(epochs)
    if not all(np.isfinite(score).all() for score in (*calibrated.values(), *together.values())):
        raise BadInput(f"{method.name} diverged with seed {seed}: its predictions are not all finite.")
    figures = judge.figures(calibrated, together)
    figures |= {f"raw_{name}": value for name, value in judge.calibration(raw).items()}
    values = judge.values(calibrated, together)
    return {
        "figures": figures,
        "values": {name: np.round(value, 7).tolist() for name, value in values.items()},
        "parameters": parameters,
        "seconds": time.monotonic() - began,
        "cpu_s": time.process_time() - cpu,
        **more,
    }


def _fit_one(
    world: World,
    ranker: MultiObjectiveRanker,
    balancer: Balancer | None,
    config: CompareObjectivesConfig,
    seed: int,
    progress: Progress,
) -> list[ObjectivesEpoch]:
    return fit_objectives(
        ranker,
        world.log,
        world.known,
        config.loop,
        balancer,
        seed=seed,
        stop_rows=world.stop,
        censored=world.dataset.censored(world.vocabulary),
        on_step=progress,
    )


def _scores(
    world: World, ranker: MultiObjectiveRanker, config: CompareObjectivesConfig, history_at: HistoryAt = "row"
) -> dict[str, F32]:
    length = config.loop.sequence_length
    found = predict_objectives(ranker, world.log, world.test, length, history_at=history_at)
    scores = {name: found.probability[:, t] for t, name in enumerate(ranker.likely)}
    return scores if found.seconds is None else {WATCH_TIME: found.seconds} | scores
