"""`compare forgetting`: forgetting by influence and its peers, each against a fit without the rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from models.arrays import F64
from models.metrics import auc
from training.experiments.config import MethodSpec
from training.experiments.engine import Experiment, Fits
from training.experiments.forgetting.config import ForgettingConfig
from training.experiments.forgetting.evaluator import MODELS, LongViewEvaluator
from training.experiments.forgetting.fitted_model import REFIT_SEEDS, FittedModel, Logits
from training.experiments.forgetting.removals import FLIPPED, Removals, draw_removals
from training.experiments.forgetting.rows import Rows, load_long_views
from training.experiments.jobs import Progress, Result
from training.experiments.results import Row, encode


@dataclass(frozen=True)
class Method(MethodSpec):
    """A way to forget."""

    way: str = ""
    """Without the model."""


WAYS: Final = {
    "retrain": "fitted again without the rows, from another start",
    "influence": "one Newton step on the remaining rows with spillover, important embeddings alone",
    "influence, 2 steps": "the same and a second step from there",
    "fine-tuning": "some epochs more, on the remaining rows",
    "negative gradient": "steps up the loss of the forgotten rows",
    "SISA": "a model for each quarter of the users; those with forgotten rows are fitted again",
    "SCIF": "influence on the embeddings of the users of the forgotten rows alone, curvature of all rows",
    "nothing": "the fitted model as it is",
}
ABLATIONS: Final = {
    "no spillover": "the graph's change left out",
    "no pruning": "all embeddings updated",
    "all-data curvature": "curvature of all rows instead of the remaining ones",
}
METHODS: Final = tuple(
    Method(f"{title} {way}", says, ablation=way in ABLATIONS, fit=fit, way=way)
    for fit, title in MODELS.items()
    for way, says in (WAYS | ABLATIONS).items()
    if (fit, way) != ("matrix_factorisation", "no spillover")
)
"""Every row. Nothing spills over in matrix factorisation."""


def load_evaluator(folder: Path, config: ForgettingConfig) -> LongViewEvaluator:
    """Read a log."""
    return LongViewEvaluator(load_long_views(folder, config))


def fit_model(
    evaluator: LongViewEvaluator, name: str, config: ForgettingConfig, seed: int, progress: Progress
) -> Result:
    """Fit one model on rows some of which have the wrong label, and forget sets of rows in every way."""
    views = evaluator.views
    removals = draw_removals(views.train, config, seed=seed)
    fitted = FittedModel.fit(name, removals, views.nodes, config, seed=seed)
    methods = [method for method in METHODS if method.fit == name]
    readouts: dict[str, Result] = {method.name: {"figures": {}, "values": {}} for method in methods}
    steps, finished = len(removals.removed) * (len(methods) + 1), 0
    for removal, removed in removals.removed.items():
        suffix = "" if removal == FLIPPED else f"/{removal}"
        second = _predict(fitted.refit(removed, REFIT_SEEDS[1]), views.test)
        for method in methods:  # the first one retrains
            began = time.process_time()
            logits, update = fitted.forget(method.way, removed)
            seconds = time.process_time() - began
            score, result = _predict(logits, views.test), readouts[method.name]
            if method.way == "retrain":
                retrained, retraining_s = score, seconds
            figures = {
                "seconds": seconds,
                "times_faster": None if method.way == "nothing" else retraining_s / seconds,
                "auc": auc(evaluator.label, score),
                "distance": None if method.way == "retrain" else _distance(score, retrained),
                "distance_of_two_retrainings": _distance(second, retrained),
            }
            if update is not None:
                figures |= {"residual": update.residual, "nodes": update.nodes, "products": update.iterations}
            if removal == FLIPPED:
                figures["membership_auc"] = _membership_auc(logits, removals)
                result["values"][name] = encode(evaluator.values(score))
            result["figures"] |= {f"{figure}{suffix}": value for figure, value in figures.items()}
            finished += 1
            progress(finished / steps)
    sweep = _sweep(fitted) if seed == config.seed else []
    return {"readouts": readouts, "sweep": sweep}


def _sweep(fitted: FittedModel) -> list[dict[str, Any]]:
    """Return what is left of the gradient's change by damping, when the flipped rows are forgotten."""
    chosen, removed = fitted.model_config, fitted.removals.removed[FLIPPED]
    found = []
    for damping in fitted.config.dampings:
        influence = chosen.influence.model_copy(update={"damping": damping})
        damped = replace(fitted, model_config=chosen.model_copy(update={"influence": influence}))
        one, two = (damped.influence(removed, steps=steps)[1] for steps in (1, 2))
        found.append(
            {
                "damping": damping,
                "residual": one.residual,
                "residual_2_steps": two.residual,
                "products": one.iterations,
                "indefinite": one.indefinite or two.indefinite,
            }
        )
    return found


def _predict(logits: Logits, rows: Rows) -> F64:
    with torch.no_grad():
        predicted: F64 = logits(rows).double().numpy()
    return predicted


def _distance(first: F64, second: F64) -> float:
    """Return the root mean square difference of logits."""
    return float(np.sqrt(np.mean((first - second) ** 2)))


def _membership_auc(logits: Logits, removals: Removals) -> float | None:
    """Return how well the loss distinguishes fitted flipped rows from the control; .5 is not at all."""
    fitted = removals.train.take(removals.removed[FLIPPED])
    margin = np.concatenate(
        [_predict(logits, rows) * rows.sign.numpy() for rows in (fitted, removals.control)]
    )
    return auc(np.repeat([1, 0], [len(fitted.sign), len(removals.control.sign)]), margin)


def describe_fits(method: Method, fits: Sequence[Result]) -> dict[str, Any]:
    """Return the model of a row, and whether it is an ablation."""
    return {"model": MODELS[method.fit], "way": method.way, "ablation": method.ablation}


def sections(
    evaluator: LongViewEvaluator,
    config: ForgettingConfig,
    methods: Sequence[Method],
    rows: Sequence[Row],
    fits: Fits,
) -> dict[str, Any]:
    """Return how many rows are used and forgotten, and what share of the AUC that retraining regains."""
    train, test = evaluator.views.train, evaluator.views.test
    removals = draw_removals(train, config, seed=config.seed)
    mean = {row["method"]: row["metrics"]["auc"]["mean"] for row in rows if "auc" in row["metrics"]}
    recovery = {}
    for name, found in mean.items():
        title = name.split()[0]
        nothing, best = mean.get(f"{title} nothing"), mean.get(f"{title} retrain")
        if found is not None and nothing is not None and best is not None and best != nothing:
            recovery[name] = (found - nothing) / (best - nothing)
    return {
        "rows_used": {
            "train": len(removals.train.user),
            "users": len(torch.unique(train.user)),
            "videos": len(torch.unique(train.video)),
            "test": len(test.user),
        },
        "forgotten": {name: int(removed.sum()) for name, removed in removals.removed.items()},
        "recovery": recovery,
        "sweep": {title: sweep for title in MODELS.values() if (sweep := _first_sweep(title, fits))},
    }


def _first_sweep(title: str, fits: Fits) -> list[dict[str, Any]]:
    found = (results[0]["sweep"] for name, results in fits.items() if name.split()[0] == title and results)
    return next(found, [])


FORGETTING: Final = Experiment(
    name="forgetting",
    config=ForgettingConfig,
    methods=METHODS,
    reference="MF retrain",
    references={f"auc/{fit}": f"{title} retrain" for fit, title in MODELS.items()},
    load=load_evaluator,
    fit=fit_model,
    describe_fits=describe_fits,
    sections=sections,
    columns=(
        ("seconds", "CPU s", 2),
        ("times_faster", "times faster", 1),
        ("auc", "AUC", 4),
        ("distance", "distance", 3),
        ("membership_auc", "membership", 3),
    ),
)
