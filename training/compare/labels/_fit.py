"""One job: labels by one method, the recommender fitted on them, and what its lists are worth."""

# Shape suffixes: N rows of the log, R rows of the test window, T heads.

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from models.arrays import F32
from models.errors import BadInput
from training.compare._jobs import Job, Progress, Result, Work
from training.compare.labels._judge import rank_correlation
from training.compare.labels._methods import METHODS, Method
from training.compare.labels._surface import surface
from training.compare.labels._world import CompareConfig, World, open_world
from training.labelcraft import fit_labelcraft
from training.labels import LabelMaker, heuristic_label_makers, labels_of
from training.recommender import fit_recommender

KEEPS_SCORES: Final = ("wt", "ef")
"""Methods whose scores are kept with their figures: the front is made of their mixes."""
_LEARNING: Final = 0.8
"""Share of a job that learning labels takes, for the bar."""


class _Labels(NamedTuple):
    """The label makers of a method, fitted, by name."""

    makers: dict[str, LabelMaker]
    curves: list[dict[str, Any]]
    """How the labels were learned, an entry an epoch; empty for heuristic_label_makers."""


def prepare(data: Path, config: CompareConfig) -> Work:
    """Read the log once; returns what does a job with it."""
    world = open_world(data, config)
    methods = {method.name: method for method in METHODS}
    return lambda job, progress: _fit(world, methods[job.method], config, job, progress)


def _fit(world: World, method: Method, config: CompareConfig, job: Job, progress: Progress) -> Result:
    began = time.monotonic()
    learn = _learned if method.learned else _rules
    makers, curves = learn(world, method, config, job.seed, lambda share: progress(_LEARNING * share))
    labels_NT = np.stack([labels_of(maker, world.log) for maker in makers.values()], axis=1)
    _refuse_constant(makers, labels_NT[world.known])
    labelled = time.monotonic()
    rest = 1 - _LEARNING if method.learned else 1.0
    fitted = fit_recommender(
        world.log,
        world.known,
        world.stop,
        labels_NT,
        config.recommender.model_copy(update={"k": world.stop_k, **method.recommender}),
        seed=job.seed,
        on_progress=lambda share: progress(1 - rest + rest * share),
    )
    score_R = fitted.score(world.window.rows)
    # Of several heads, the labels add up as their scores do.
    label_N = labels_NT[world.known].sum(axis=1)
    result: Result = {
        "values": {name: value.tolist() for name, value in world.window.values(score_R).items()},
        "histogram": world.window.histogram(score_R),
        "label_duration_correlation": rank_correlation(label_N, world.log.duration_s[world.known]),
        "score_duration_correlation": rank_correlation(score_R, world.window.duration),
        "epochs": fitted.best_epoch + 1,
        "curves": curves,
        "seconds": {"labels": labelled - began, "recommender": time.monotonic() - labelled},
    }
    if method.name in KEEPS_SCORES:
        result["scores"] = score_R.tolist()
    if job.seed == config.seed and not method.ablation:
        known = world.log.take(world.known)
        result["surfaces"] = {name: surface(maker, known) for name, maker in makers.items()}
    return result


def _refuse_constant(makers: Mapping[str, LabelMaker], label_NT: F32) -> None:
    """A label that is the same for every exposure teaches nothing, whatever its row would say."""
    for name, label_N in zip(makers, label_NT.T, strict=True):
        if label_N.min() == label_N.max():
            raise BadInput(
                f"{name} labels all {len(label_N)} exposures to learn from with {label_N[0]:g}, so there is "
                "nothing to learn from it on this log."
            )


def _rules(world: World, method: Method, config: CompareConfig, seed: int, progress: Progress) -> _Labels:
    """Fixed heuristic_label_makers: tables off the rows that the recommender is fitted on."""
    known = world.log.take(world.known)
    fresh = {rule.name: rule for rule in heuristic_label_makers()}
    return _Labels({name: fresh[name].fit(known) for name in method.labels}, [])


def _learned(world: World, method: Method, config: CompareConfig, seed: int, progress: Progress) -> _Labels:
    """LabelCraft, perhaps with something taken away."""
    fitted = fit_labelcraft(
        world.log,
        world.split.train,
        world.split.meta,
        world.split.early_stop,
        config.labelcraft.model_copy(update=dict(method.labelcraft)),
        seed=seed,
        on_progress=progress,
    )
    return _Labels({fitted.label_maker.name: fitted.label_maker}, fitted.curves)
