"""The jobs of the comparison: labels at an origin, then recommenders on them; each leaves arrays behind."""

# Shape suffixes: N rows known at an origin, R rows of a window's slates, P parts, M methods.

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.arrays import F32, F64
from models.metrics import auc
from training.data import LikesHates, read_likes_hates
from training.evaluation.label_surface import label_surface
from training.experiments.jobs import Job, Progress, Result, Work
from training.experiments.labels.config import LabelsConfig
from training.experiments.labels.known_labels import known_labels, weights
from training.experiments.labels.methods import GRID, METHODS, Method, part_names
from training.experiments.labels.recommenders import RidgeNormal, Trees, drawn_users, network_scores
from training.experiments.labels.rolling import RollingOrigin, rolling_origin
from training.labelcraft.closed_form import learn_labels
from training.labels import LabelMaker

LABELS: Final = "labels"
RIDGE: Final = "ridge"
TREES: Final = "trees"
NETWORK: Final = "network"

_PICKS: Final = "picks.json"
_CELL: Final = 0.02
"""Labels within .01 of one value are in a cell of so much."""


@dataclass(frozen=True)
class Plan:
    """What jobs do, and the folder in which their arrays are kept until the report is written."""

    methods: tuple[Method, ...]
    config: LabelsConfig
    folder: Path
    likes_hates: LikesHates | None = None
    """Half of their users are learned from, likes above hates are counted on the others."""

    @property
    def parts(self) -> tuple[str, ...]:
        """The labels that methods and rules are made of, in the order of the columns."""
        return part_names((*self.methods, *GRID))

    def save(self, job: Job, window: int, array: F32 | F64) -> None:
        """Keep an array of one window."""
        np.save(self._path(job, window), array.astype(np.float32))

    def load(self, job: Job, window: int) -> F32:
        """Return an array of one window."""
        found: F32 = np.load(self._path(job, window))
        return found

    def labels(self, window: int) -> F32:
        """Return `[N, P]` the labels of the rows known before a window."""
        return self.load(Job(LABELS, window), window)

    def weights(self, methods: Sequence[Method], window: int) -> F32:
        """Return `[P, M]`, see `known_labels.weights`."""
        return weights(methods, self.parts, self.labels(window))

    def save_picks(self, picks: dict[str, list[str]]) -> None:
        """Keep the names of the rules that were picked, by `Method.pick`, a window each."""
        (self.folder / _PICKS).write_text(json.dumps(picks))

    def picks(self) -> dict[str, list[str]]:
        """Return what `save_picks` kept."""
        picks: dict[str, list[str]] = json.loads((self.folder / _PICKS).read_text())
        return picks

    def resolved(self, window: int) -> tuple[Method, ...]:
        """Return the methods, in place of picked rules what was picked for a window."""
        picks = self.picks()
        rules = {rule.name: rule for rule in (*self.methods, *GRID)}
        return tuple(
            method
            if method.pick is None
            else replace(
                method,
                parts=rules[picks[method.pick][window]].parts,
                standardised=rules[picks[method.pick][window]].standardised,
            )
            for method in self.methods
        )

    def redraws(self, kind: str, method: Method) -> int:
        """Return how many recommenders of a kind are fitted on a method."""
        if kind == RIDGE:
            return self.config.seeds
        if kind == TREES:
            return self.config.tree_seeds if method.decisive else min(2, self.config.tree_seeds)
        return self.config.network_seeds if method.network else 0

    def fitted(self, kind: str, redraw: int, window: int) -> list[Method]:
        """Return the methods that a redraw of a kind of recommender is fitted on."""
        return [
            method for method in self.resolved(window) if method.parts and redraw < self.redraws(kind, method)
        ]

    def _path(self, job: Job, window: int) -> Path:
        return self.folder / f"{job.method}-{job.seed}-{window}.npy"


def prepare(
    data: Path, likes_hates: Path | None, names: Sequence[str], config: LabelsConfig, folder: Path
) -> Work:
    """Read the log once in each process, and return what does a job."""
    origin = rolling_origin(data, config)
    rows = None if likes_hates is None else read_likes_hates(likes_hates)
    plan = Plan(tuple(method for method in METHODS if method.name in names), config, folder, rows)
    kinds = {LABELS: label_known_rows, RIDGE: fit_ridge, TREES: fit_trees, NETWORK: fit_networks}

    def work(job: Job, progress: Progress) -> Result:
        return kinds[job.method](origin, plan, job, progress)

    return work


def label_known_rows(origin: RollingOrigin, plan: Plan, job: Job, progress: Progress) -> Result:
    """Fit every label maker to the rows before window `job.seed`, and keep their labels `[N, P]`."""
    config, window = plan.config, origin.windows[job.seed]
    known, day_N = origin.log.take(window.known), origin.day[window.known]
    # Before the first window there is none to learn on.
    methods = [method for method in plan.methods if method.learned is not None and job.seed > 0]
    makers: dict[str, LabelMaker] = {}
    learned: dict[str, Any] = {}
    for done, method in enumerate(methods):
        changed = config.closed_form.model_copy(update=dict(method.learned or {}))
        result = learn_labels(known, day_N, changed, likes_hates=plan.likes_hates, seed=config.seed)
        makers[method.name] = result.label_maker
        learned[method.name] = {"distance": result.distance}
        if window is origin.windows[-1]:
            learned[method.name]["surface"] = label_surface(result.label_maker, known)
        progress((done + 1) / (len(methods) + 1))
    held_out = None if plan.likes_hates is None else plan.likes_hates.halves()[1]
    label_NP, label_MP, refused = known_labels(
        known,
        day_N,
        plan.parts,
        makers,
        seed=config.seed,
        others=None if held_out is None else held_out.log,
    )
    plan.save(job, job.seed, label_NP)
    fixed = [method for method in plan.methods if method.parts]
    weight_PM = weights(fixed, plan.parts, label_NP)
    facts = {
        method.name: _facts(label_NP @ weight_P, known.duration_s)
        | {"likes_above_hates": None if held_out is None else auc(held_out.liked, label_MP @ weight_P)}
        for method, weight_P in zip(fixed, weight_PM.T, strict=True)
    }
    return {"refused": refused, "learned": learned, "facts": facts}


def _facts(label_N: F32, duration_N: F32) -> dict[str, float | None]:
    """Return figures of a label without a recommender."""
    if np.ptp(label_N) == 0:
        return {"mean": None, "duration_correlation": None, "concentration": None}
    cells = np.floor((label_N - label_N.min()) / _CELL).astype(np.int64)
    return {
        "mean": float(label_N.mean()),
        "duration_correlation": float(np.corrcoef(label_N, np.log(duration_N))[0, 1]),
        "concentration": float(np.bincount(cells).max() / len(cells)),
    }


def fit_ridge(origin: RollingOrigin, plan: Plan, job: Job, progress: Progress) -> Result:
    """Keep the scores `[2, R, P]` of every window: a ridge regression is linear in the labels, so that the
    scores of any rule are sums of those of its parts."""
    normal = RidgeNormal(origin, _user_weights(origin, plan, job), plan.config.closed_form.ridge)
    for index, window in enumerate(origin.windows):
        plan.save(job, index, normal.scores(window, plan.labels(index)))
        progress((index + 1) / len(origin.windows))
    return {}


def fit_trees(origin: RollingOrigin, plan: Plan, job: Job, progress: Progress) -> Result:
    """Keep the scores `[R, M]` of every evaluated window, by the methods of `Plan.fitted`."""
    weight_U = _user_weights(origin, plan, job)
    for index in range(1, len(origin.windows)):
        window, methods = origin.windows[index], plan.fitted(TREES, job.seed, index)
        label_NM = plan.labels(index) @ plan.weights(methods, index)
        trees = {
            blind: Trees(origin, window, plan.config.trees, duration_blind=blind)
            for blind in {method.duration_blind for method in methods}
        }
        scores = []
        for method, label_N in zip(methods, label_NM.T, strict=True):
            scores.append(trees[method.duration_blind].score(label_N, weight_U, seed=job.seed))
            progress((index - 1 + len(scores) / len(methods)) / (len(origin.windows) - 1))
        plan.save(job, index, np.stack(scores, axis=1))
    return {}


def fit_networks(origin: RollingOrigin, plan: Plan, job: Job, progress: Progress) -> Result:
    """Keep the scores `[R, M]` of every evaluated window, by the methods of `Plan.fitted`."""
    for index in range(1, len(origin.windows)):
        methods = plan.fitted(NETWORK, job.seed, index)
        label_NM = plan.labels(index) @ plan.weights(methods, index)
        scores = []
        for label_N in label_NM.T:
            window, config = origin.windows[index], plan.config.network
            scores.append(network_scores(origin, window, label_N, config, seed=job.seed))
            progress((index - 1 + len(scores) / len(methods)) / (len(origin.windows) - 1))
        plan.save(job, index, np.stack(scores, axis=1))
    return {}


def _user_weights(origin: RollingOrigin, plan: Plan, job: Job) -> F64:
    return drawn_users(len(origin.log.user_ids), np.random.default_rng((plan.config.seed, job.seed)))
