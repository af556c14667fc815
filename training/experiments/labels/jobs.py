"""The jobs of the comparison: labels at an origin, then recommenders on them; each leaves arrays behind."""

# Shape suffixes: N rows known at an origin, R rows of a window's slates, P parts, M methods.

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.arrays import F32, F64
from models.errors import BadInput
from models.metrics import auc
from training.data import LikesHates, read_likes_hates
from training.evaluation.label_surface import label_surface
from training.experiments.jobs import Job, Progress, Result, Work
from training.experiments.labels.config import LabelsConfig
from training.experiments.labels.known_labels import known_labels, weights
from training.experiments.labels.methods import GRID, METHODS, Method, part_names
from training.experiments.labels.recommenders import Ridge, Trees, drawn_users, network_scores
from training.experiments.labels.rolling import RollingOrigin, Window, rolling_origin
from training.labelcraft import FittedLabels, fit_labelcraft
from training.labelcraft.closed_form import (
    Gradient,
    LabelSurface,
    LearnedSurface,
    RidgeWindow,
    learn_surface,
    ridge_windows,
)
from training.labels import LabelMaker

LABELS: Final = "labels"
RIDGE: Final = "ridge"
TREES: Final = "trees"
NETWORK: Final = "network"

_SOME: Final = 4
"""Trees on a decisive method that is not central: the fewest that can be compared by halves."""
_FEWEST: Final = 2
"""Recommenders of a kind on the other methods."""
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

    def labels_of(self, methods: Sequence[Method], window: int) -> F32:
        """Return `[N, M]` the labels of methods."""
        label_NP = self.labels(window)
        return label_NP @ weights(methods, self.parts, label_NP)

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
            most = self.config.tree_seeds
            return most if method.central else min(most, _SOME if method.decisive else _FEWEST)
        most = self.config.network_seeds
        return most if method.central else min(most, _FEWEST) if method.network else 0

    def jobs(self, kind: str) -> list[Job]:
        """Return the redraws of a kind of recommender that are fitted on any method."""
        fitted = [self.redraws(kind, method) for method in self.methods if method.parts or method.pick]
        return [Job(kind, redraw) for redraw in range(max(fitted, default=0))]

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
    refused: dict[str, str] = {}

    @cache  # methods differ in nothing else that windows are made by
    def windows_of(gradient: Gradient) -> list[RidgeWindow]:
        changed = config.closed_form.model_copy(update={"gradient": gradient})
        return ridge_windows(known, day_N, LabelSurface(changed).fit(known), changed, seed=config.seed)

    def learn(method: Method) -> LearnedSurface | FittedLabels:
        if method.learner == "one_step":
            train = np.searchsorted(window.known, origin.windows[job.seed - 1].known)
            hold_out = np.setdiff1d(np.arange(len(known)), train)
            return fit_labelcraft(known, train, hold_out, hold_out, config.one_step, seed=config.seed)
        changed = config.closed_form.model_copy(update=dict(method.learned or {}))
        return learn_surface(
            known,
            windows_of(changed.gradient),
            LabelSurface(changed).fit(known),
            changed,
            likes_hates=plan.likes_hates,
            seed=config.seed,
        )

    for done, method in enumerate(methods):
        try:
            result = learn(method)
        except BadInput as e:
            refused[method.name] = str(e)
            continue
        makers[method.name] = result.label_maker
        learned[method.name] = {"distance": result.distance}
        if window is origin.windows[-1]:
            learned[method.name]["surface"] = label_surface(result.label_maker, known)
        progress((done + 1) / (len(methods) + 1))
    held_out = None if plan.likes_hates is None else plan.likes_hates.halves()[1]
    label_NP, label_MP, not_fitted = known_labels(
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
    return {"refused": refused | not_fitted, "learned": learned, "facts": facts}


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
    normal = Ridge(origin, _user_weights(origin, plan, job), plan.config.closed_form.ridge)
    for index, window in enumerate(origin.windows):
        plan.save(job, index, normal.scores(window, plan.labels(index)))
        progress((index + 1) / len(origin.windows))
    return {}


def fit_trees(origin: RollingOrigin, plan: Plan, job: Job, progress: Progress) -> Result:
    """Keep the scores of `_score_methods` by boosted trees."""
    weight_U = _user_weights(origin, plan, job)

    def scorer(window: Window) -> Scorer:
        @cache
        def trees(duration_blind: bool) -> Trees:
            return Trees(origin, window, plan.config.trees, duration_blind=duration_blind)

        return lambda method, label_N: trees(method.duration_blind).score(label_N, weight_U, seed=job.seed)

    return _score_methods(origin, plan, job, progress, scorer)


def fit_networks(origin: RollingOrigin, plan: Plan, job: Job, progress: Progress) -> Result:
    """Keep the scores of `_score_methods` by SASRec4SV's model."""

    def scorer(window: Window) -> Scorer:
        return lambda _, label_N: network_scores(origin, window, label_N, plan.config.network, seed=job.seed)

    return _score_methods(origin, plan, job, progress, scorer)


Scorer = Callable[[Method, F32], F64]
"""A method and its labels of the known rows -> scores of a window's rows."""


def _score_methods(
    origin: RollingOrigin, plan: Plan, job: Job, progress: Progress, scorer: Callable[[Window], Scorer]
) -> Result:
    """Keep the scores `[R, M]` of every evaluated window, by the methods of `Plan.fitted`."""
    for index, window in enumerate(origin.windows[1:], start=1):
        methods, score = plan.fitted(job.method, job.seed, index), scorer(window)
        scores: list[F64] = []
        known: dict[str, F64] = {}  # the best rules are often one and the same
        for method, label_N in zip(methods, plan.labels_of(methods, index).T, strict=True):
            key = f"{method.parts} {method.standardised} {method.duration_blind}"
            if key not in known:
                known[key] = score(method, label_N)
            scores.append(known[key])
            progress((index - 1 + len(scores) / len(methods)) / (len(origin.windows) - 1))
        plan.save(job, index, np.stack(scores, axis=1))
    return {}


def _user_weights(origin: RollingOrigin, plan: Plan, job: Job) -> F64:
    return drawn_users(len(origin.log.user_ids), np.random.default_rng((plan.config.seed, job.seed)))
