"""`compare forgetting`: forgetting by influence and its peers, each against a fit without the rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from models.arrays import F64, I64
from models.metrics import auc
from training.evaluation.bootstrap import Measure
from training.experiments.config import MethodSpec
from training.experiments.engine import Experiment, Fits
from training.experiments.forgetting.config import ForgettingConfig, ModelConfig
from training.experiments.forgetting.fit import fit_table
from training.experiments.forgetting.id_model import IdModel
from training.experiments.forgetting.influence import Forgotten, forget_rows
from training.experiments.forgetting.light_gcn import LightGCN
from training.experiments.forgetting.matrix_factorisation import MatrixFactorisation
from training.experiments.forgetting.peers import Shards, ascend, fine_tune
from training.experiments.forgetting.removals import FLIPPED, Removals, draw_removals
from training.experiments.forgetting.rows import LongViews, Rows, load_long_views
from training.experiments.jobs import Progress, Result
from training.experiments.results import Row, encode

MODELS: Final = {"matrix_factorisation": "MF", "light_gcn": "LightGCN"}
"""By fit, the name in the table."""
REFIT_SEEDS: Final = (1000, 2000)
"""Added to the seed: a fit without the rows starts anew, and so does the second one."""

Logits = Callable[[Rows], Tensor]
"""Rows -> what a forgetful model predicts, `[N]`."""


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


class LongViewEvaluator:
    """Predictions of long views on the test window.

    Args:
        views: the log.
    """

    def __init__(self, views: LongViews) -> None:
        self.views, self.data = views, views.data

    @cached_property
    def label(self) -> I64:
        """`[V]` 1 for a long view."""
        return (self.views.test.sign > 0).numpy().astype(np.int64)

    @property
    def users(self) -> I64:
        """`[V]`"""
        users: I64 = self.views.test.user.numpy()
        return users

    @property
    def measures(self) -> Mapping[str, Measure]:
        """AUC of each model, as the mean over the long views of the share of other rows below."""
        weight = self.label.astype(np.float64)
        return {f"auc/{fit}": Measure(fit, weight) for fit in MODELS}

    def values(self, score: F64) -> F64:
        """Return of each long view the share of the other rows that score less, ties half; NaN elsewhere."""
        others = np.sort(score[self.label == 0])
        below = np.searchsorted(others, score, "left") + np.searchsorted(others, score, "right")
        return np.where(self.label > 0, below / (2 * len(others)), np.nan)

    def describe_window(self, rows: I64) -> dict[str, Any]:
        """Return nothing: the rows of users and videos without enough of them are counted, too."""
        return {}


def load_evaluator(folder: Path, config: ForgettingConfig) -> LongViewEvaluator:
    """Read a log."""
    return LongViewEvaluator(load_long_views(folder, config))


@dataclass(frozen=True)
class _Forgetting:
    """One model fitted with one seed on rows of which some are to be forgotten."""

    model: IdModel
    table: Tensor
    removals: Removals
    config: ForgettingConfig
    model_config: ModelConfig
    shards: Shards
    seed: int

    def refit(self, removed: Tensor, added: int) -> Logits:
        remaining, fit = self.removals.train.take(~removed), self.model_config.fit
        model = self.model.on_rows(remaining)
        table = fit_table(model, remaining, len(self.table), fit, seed=self.seed + added)
        return partial(model.logits, table)

    def influence(self, removed: Tensor, **options: Any) -> tuple[Logits, Forgotten]:
        chosen = self.model_config
        found = forget_rows(
            self.model,
            self.table,
            self.removals.train,
            removed,
            chosen.fit.penalty,
            chosen.influence,
            **options,
        )
        return partial(self.model.on_rows(self.removals.train.take(~removed)).logits, found.table), found

    def forget(self, way: str, removed: Tensor) -> tuple[Logits, Forgotten | None]:
        """Return what a way to forget leaves, and what is known of its update."""
        rows, config = self.removals.train, self.config
        match way:
            case "retrain":
                return self.refit(removed, REFIT_SEEDS[0]), None
            case "influence":
                return self.influence(removed)
            case "influence, 2 steps":
                return self.influence(removed, steps=2)
            case "no spillover":
                return self.influence(removed, spillover=False)
            case "no pruning":
                return self.influence(removed, nodes=torch.unique(rows.edges))
            case "all-data curvature":
                return self.influence(removed, all_rows_curvature=True)
            case "SCIF":
                users = torch.unique(rows.user[removed])
                return self.influence(removed, nodes=users, spillover=False, all_rows_curvature=True)
            case "SISA":
                parts = self.shards.without(removed)
                return lambda test: torch.stack([m.logits(table, test) for m, table in parts]).mean(0), None
            case "fine-tuning":
                table = fine_tune(
                    self.model,
                    self.table,
                    rows.take(~removed),
                    self.model_config.fit,
                    epochs=config.fine_tuning_epochs,
                    seed=self.seed,
                )
                return partial(self.model.on_rows(rows.take(~removed)).logits, table), None
            case "negative gradient":
                steps, rate = config.ascent_steps, config.ascent_rate
                table = ascend(self.model, self.table, rows.take(removed), steps=steps, rate=rate)
                return partial(self.model.logits, table), None
            case _:
                return partial(self.model.logits, self.table), None


def fit_model(
    evaluator: LongViewEvaluator, name: str, config: ForgettingConfig, seed: int, progress: Progress
) -> Result:
    """Fit one model on rows some of which have the wrong label, and forget sets of rows in every way."""
    views = evaluator.views
    removals = draw_removals(views.train, config, seed=seed)
    model: IdModel = (
        MatrixFactorisation() if name == "matrix_factorisation" else LightGCN.from_rows(removals.train)
    )
    chosen = config.matrix_factorisation if name == "matrix_factorisation" else config.light_gcn
    table = fit_table(model, removals.train, views.nodes, chosen.fit, seed=seed)
    shards = Shards(model, removals.train, views.nodes, config.shards, chosen.fit, seed=seed)
    forgetting = _Forgetting(model, table, removals, config, chosen, shards, seed)
    methods = [method for method in METHODS if method.fit == name]
    readouts: dict[str, Result] = {method.name: {"figures": {}, "values": {}} for method in methods}
    steps, finished = len(removals.removed) * (len(methods) + 1), 0
    for removal, removed in removals.removed.items():
        suffix = "" if removal == FLIPPED else f"/{removal}"
        second = _predict(forgetting.refit(removed, REFIT_SEEDS[1]), views.test)
        retrained, retraining_s = second, 0.0  # replaced by the first way, which is `retrain`
        for method in methods:
            began = time.process_time()
            logits, update = forgetting.forget(method.way, removed)
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
    sweep = _sweep(forgetting) if seed == config.seed else []
    return {"readouts": readouts, "sweep": sweep}


def _sweep(forgetting: _Forgetting) -> list[dict[str, Any]]:
    """Return what is left of the gradient's change by damping, when the flipped rows are forgotten."""
    chosen, removed = forgetting.model_config, forgetting.removals.removed[FLIPPED]
    found = []
    for damping in forgetting.config.dampings:
        influence = chosen.influence.model_copy(update={"damping": damping})
        damped = replace(forgetting, model_config=chosen.model_copy(update={"influence": influence}))
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
