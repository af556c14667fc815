"""`compare labels`: every label maker on one log, evaluated by the same recommender."""

# Shape suffixes: N rows of the log, R rows of the test window, T heads, W watch times, D durations.

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import torch
from pydantic import Field, PositiveInt

from models.arrays import F32, I64
from models.errors import BadInput
from training.data import day_numbers
from training.evaluation.label_surface import label_surface
from training.evaluation.slates import (
    BINS_S,
    SHARES,
    SlateEvaluator,
    interpolate_rankings,
    margin_over_frontier,
    rank_correlation,
)
from training.experiments.config import ExperimentConfig, MethodSpec
from training.experiments.data import ExperimentData, load_experiment_data
from training.experiments.engine import Experiment, Fits
from training.experiments.jobs import Progress, Result
from training.experiments.results import Row, mean_of, summarize_seeds
from training.labelcraft import LabelCraftConfig, fit_labelcraft
from training.labelcraft.closed_form import ClosedFormConfig, LabelSurface, learn_labels
from training.labels import LabelMaker, heuristic_label_makers, labels_of
from training.recommender import RecommenderConfig, fit_recommender
from training.strata import DurationGroups
from training.train.recipes import any_log

COLUMNS: Final = ("nwtg", "neg", "ds")
"""The paper's three figures, in its order."""
FRONTIER: Final = ("wt", "ef")
"""The methods whose recommenders are mixed: their scores are kept with their figures."""
_LEARNING_SHARE: Final = 0.8
"""Share of a job that learning labels takes, for the progress bar."""


@dataclass(frozen=True)
class Method(MethodSpec):
    """Which labels a recommender is fitted on, and how it is fitted."""

    labels: tuple[str, ...] = ()
    """The label makers, by their names in `POST /label`: a head for each."""
    recommender: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the experiment's `RecommenderConfig`."""
    labelcraft: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the experiment's `LabelCraftConfig`."""
    closed_form: Mapping[str, Any] | None = None
    """What differs from the experiment's `ClosedFormConfig`, where LabelCraft's labels are learned by it."""

    @property
    def learned(self) -> bool:
        """Whether LabelCraft learns its labels."""
        return self.labels == ("labelcraft",)


def _maker(name: str, description: str, *labels: str, paper: bool = False, **recommender: Any) -> Method:
    """A recommender on these labels, by default on the one of the method's name."""
    return Method(name, description, paper=paper, labels=labels or (name,), recommender=recommender)


def _without(part: str, description: str, **changes: Any) -> Method:
    name = f"labelcraft {part}"
    return Method(name, description, ablation=True, labels=("labelcraft",), labelcraft=changes)


_DVR: Final[dict[str, Any]] = {"adversary": 0.1, "duration_feature": False}
"""λ_adv of the DVR authors' command line; the model does not see the duration."""
_SHARED: Final = "one head each on a shared bottom"
_DML: Final = ("dml_wpr_d", "dml_ev_d", "dml_ev_u", "dml_ev_v", "dml_lv_d", "dml_lv_u", "dml_lv_v")


def _in_closed_form(name: str, description: str, **changes: Any) -> Method:
    return Method(name, description, ablation=True, labels=("labelcraft",), closed_form=changes)


METHODS: Final = (
    _maker("labelcraft", "labels learned on the platform's objectives"),
    *(_maker(m.name, m.description, paper=m.baseline) for m in heuristic_label_makers()),
    _maker(
        "ef own", "any explicit feedback, stopped early by its own loss instead of NWTG", "ef", stop_by="own"
    ),
    _maker(
        "dvr",
        "WTG; the model does not see the duration, an adversary removes the rest",
        "wtg",
        paper=True,
        **_DVR,
    ),
    _maker("wt+ef", _SHARED, "wt", "ef", paper=True),
    _maker("d2q+ef", _SHARED, "d2q", "ef", paper=True),
    _maker("dvr+ef", f"{_SHARED}, WTG as in dvr", "wtg", "ef", paper=True, **_DVR),
    _maker("dml", "seven debiased labels, one head each", *_DML),
    _without("- balancing", "all objectives weighted equally", tau=0.0),
    _without("- scaling", "seconds divided by their maximum instead of scaled", scaling=False),
    _without("- watch input", "label model without the watch time", without_input="watch_time"),
    _without("- duration input", "label model without the duration", without_input="duration"),
    _without("- explicit input", "label model without explicit feedback", without_input="explicit"),
    _without("- watch objective", "usage time not optimised", disable="usage_time"),
    _without("- duration objective", "duration spread not optimised", disable="duration_spread"),
    _without("- explicit objective", "engagement not optimised", disable="engagement"),
    _in_closed_form("labelcraft closed form", "a table learned through ridge regression, solved exactly"),
    _in_closed_form(
        "closed form, free", "the same without monotone labels", monotone=False, learning_rate=0.01
    ),
    _in_closed_form(
        "closed form, shuffled", "each row with the outer gradient of another", gradient="shuffled"
    ),
    _in_closed_form("closed form, frozen", "the table at its start", steps=0),
    _without("frozen", "label model at its warm start, not trained", freeze=True),
)
"""Every row, in the order of the report."""


class LabelsConfig(ExperimentConfig):
    """Everything that decides the figures of a comparison of labels besides the log."""

    cuts: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (5, 10)
    """The k of every `@k` figure, ascending; 2 or more, for one duration has no spread."""
    stop_days: PositiveInt = 2
    """The days before the test days, which stop fits early."""
    meta_days: PositiveInt = 2
    """The days before those: LabelCraft's hold-out. The recommenders are fitted on them, too."""
    recommender: RecommenderConfig = RecommenderConfig()
    """The recommender that is fitted on every method's labels."""
    labelcraft: LabelCraftConfig = Field(default_factory=lambda: any_log().labelcraft)
    """How LabelCraft's labels are learned; by default as in the released bundle."""
    closed_form: ClosedFormConfig = ClosedFormConfig()
    """How they are learned in closed form."""


class LabelsEvaluator(SlateEvaluator):
    """Slates on the test window, and what this log allows to stop fits by.

    Args:
        data: the log.
        config: the k, and the epochs of the recommender.
    """

    def __init__(self, data: ExperimentData, config: LabelsConfig) -> None:
        super().__init__(data.log, data.test, config.cuts, data.train)
        self.data = data
        _, counts = np.unique(data.log.user[data.stop], return_counts=True)
        supported = [k for k in config.cuts if (counts > k).any()]
        self.stop: I64 | None = data.stop if supported else None
        self.stop_k = max(supported, default=min(config.cuts))
        self.notes = [
            f"k = {k} is left out: no user has more exposures in the test window." for k in self.unsupported
        ]
        if not self.explicit.any():
            self.notes.append(
                "The test window has no explicit feedback: every NEG is 1 and carries no information."
            )
        if not supported:
            self.notes.append(
                f"No user has more than {min(config.cuts)} exposures on the early-stop days, so every "
                f"recommender makes {config.recommender.epochs} epochs."
            )
        elif self.stop_k < max(config.cuts):
            self.notes.append(
                f"Recommenders stop by NWTG@{self.stop_k}: no user has more exposures on the early-stop days."
            )

    def describe_window(self, rows: I64) -> dict[str, Any]:
        """Return how many users have more than k rows, and the share of rows with explicit feedback."""
        log = self.data.log
        _, counts = np.unique(log.user[rows], return_counts=True)
        users = {f"users@{k}": int((counts > k).sum()) for k in (*self.cuts, *self.unsupported)}
        return users | {"explicit_share": float(log.explicit[rows].mean()) if len(rows) else None}


def load_evaluator(folder: Path, config: LabelsConfig) -> LabelsEvaluator:
    """Read a log and cut it."""
    data = load_experiment_data(
        folder,
        test_days=config.test_days,
        stop_days=config.stop_days,
        meta_days=config.meta_days,
        min_count=config.min_count,
        required=("train",),
    )
    return LabelsEvaluator(data, config)


def fit_method(
    evaluator: LabelsEvaluator, name: str, config: LabelsConfig, seed: int, progress: Progress
) -> Result:
    """Fit a method's labels, then the recommender on them, and evaluate its slates."""
    started = time.monotonic()
    data, method = evaluator.data, next(method for method in METHODS if method.name == name)
    learning = _LEARNING_SHARE if method.learned else 0.0
    makers: dict[str, LabelMaker]
    curves: list[dict[str, Any]] = []
    if method.closed_form is not None:
        surface = _learn_in_closed_form(
            data, config.closed_form.model_copy(update=dict(method.closed_form)), seed
        )
        makers = {surface.name: surface}
    elif method.learned:
        assert data.meta is not None
        learned = fit_labelcraft(
            data.log,
            data.train,
            data.meta,
            data.stop,
            config.labelcraft.model_copy(update=dict(method.labelcraft)),
            seed=seed,
            on_progress=lambda share: progress(learning * share),
        )
        makers, curves = {learned.label_maker.name: learned.label_maker}, learned.curves
    else:
        known = data.log.take(data.fitted)
        heuristic = {maker.name: maker for maker in heuristic_label_makers()}
        makers = {label: heuristic[label].fit(known) for label in method.labels}
    labels_NT = np.stack([labels_of(maker, data.log) for maker in makers.values()], axis=1)
    _refuse_constant(makers, labels_NT[data.fitted])
    labelled = time.monotonic()
    fitted = fit_recommender(
        data.log,
        data.fitted,
        evaluator.stop,
        labels_NT,
        config.recommender.model_copy(update={"k": evaluator.stop_k, **method.recommender}),
        seed=seed,
        on_progress=lambda share: progress(learning + (1 - learning) * share),
    )
    score_R = fitted.score(data.test)
    values = evaluator.values(score_R)
    label_N = labels_NT[data.fitted].sum(axis=1)  # of several heads, labels add up as their scores do
    result: Result = {
        "figures": evaluator.figures(values)
        | {
            "label_duration_correlation": rank_correlation(label_N, data.log.duration_s[data.fitted]),
            "score_duration_correlation": rank_correlation(score_R, evaluator.duration),
            "epochs": fitted.best_epoch + 1,
        },
        "values": {figure: value.tolist() for figure, value in values.items()},
        "histogram": evaluator.histogram(score_R),
        "curves": curves,
        "seconds": {"labels": labelled - started, "recommender": time.monotonic() - labelled},
    }
    if name in FRONTIER:
        result["scores"] = score_R.tolist()
    if seed == config.seed and not method.ablation:
        known = data.log.take(data.fitted)
        result["surfaces"] = {label: label_surface(maker, known) for label, maker in makers.items()}
    return result


def _learn_in_closed_form(data: ExperimentData, config: ClosedFormConfig, seed: int) -> LabelSurface:
    """Learn labels on the windows of the rows that recommenders are fitted on."""
    known = data.log.take(data.fitted)
    day = day_numbers(known.timestamp_ms, data.dataset.info.utc_offset_hours)
    return learn_labels(known, day, config, seed=seed).label_maker


def _refuse_constant(makers: Mapping[str, LabelMaker], label_NT: F32) -> None:
    for name, label_N in zip(makers, label_NT.T, strict=True):
        if label_N.min() == label_N.max():
            raise BadInput(
                f"{name} labels all {len(label_N)} exposures to learn from with {label_N[0]:g}, so there is "
                "nothing to learn from it on this log."
            )


def describe_fits(method: Method, fits: Sequence[Result]) -> dict[str, Any]:
    """Return the labels, the durations in the slates, seconds, and LabelCraft's learning curves."""
    row: dict[str, Any] = {"labels": list(method.labels), "ablation": method.ablation, "paper": method.paper}
    if fits:
        row["histogram"] = np.sum([fit["histogram"] for fit in fits], axis=0).tolist()
        row["seconds"] = {
            part: round(float(np.mean([fit["seconds"][part] for fit in fits])), 2)
            for part in ("labels", "recommender")
        }
        if method.name == "labelcraft":
            row["curves"] = [fit["curves"] for fit in fits]
    return row


def sections(
    evaluator: LabelsEvaluator,
    config: LabelsConfig,
    methods: Sequence[Method],
    rows: Sequence[Row],
    fits: Fits,
) -> dict[str, Any]:
    """Return what the log does not allow, the frontier of mixtures, durations, and the labels' surfaces."""
    fitted = [row for row in rows if row["refused"] is None]
    plain = [row for row in fitted if not row["ablation"]] or fitted
    surfaces: dict[str, Any] = {}
    for result in (result for results in fits.values() for result in results):
        surfaces = result.get("surfaces", {}) | surfaces
    return {
        "notes": evaluator.notes,
        "cuts": evaluator.cuts,
        "front": _frontier(evaluator, plain, fits),
        "durations": duration_octiles(evaluator.data),
        "histogram": {"edges_s": BINS_S, "exposed": evaluator.exposed_histogram()},
        "surfaces": surfaces,
    }


def _frontier(evaluator: LabelsEvaluator, rows: Sequence[Row], fits: Fits) -> dict[str, Any] | None:
    """Return what mixtures of the two recommenders of `FRONTIER` reach, and each row's margin over them."""
    if not all(name in fits for name in FRONTIER):
        return None
    scores = [[np.array(fit["scores"], np.float32) for fit in fits[name]] for name in FRONTIER]
    seeds = [interpolate_rankings(evaluator, *pair) for pair in zip(*scores, strict=True)]
    nwtg, neg, ds = (f"{name}@{evaluator.cuts[-1]}" for name in COLUMNS)
    points = [
        {name: summarize_seeds([seed[i][name] for seed in seeds])._asdict() for name in (nwtg, neg, ds)}
        for i in range(len(SHARES))
    ]
    frontier = [[point[name]["mean"] or 0.0 for point in points] for name in (nwtg, neg)]
    margins = {
        row["method"]: margin_over_frontier(mean_of(row, nwtg), mean_of(row, neg), *frontier) for row in rows
    }
    shares = [{"share": share, **point} for share, point in zip(SHARES, points, strict=True)]
    return {"of": FRONTIER, "points": shares, "beyond": margins}


def duration_octiles(data: ExperimentData) -> list[dict[str, Any]]:
    """Return watch time and explicit feedback in eighths of the fitted rows, by duration."""
    log = data.log.take(data.fitted)
    duration, watched, explicit = log.duration_s, log.watch_time_s, log.explicit
    group_N = DurationGroups(8).fit(duration)(torch.from_numpy(duration)).numpy()
    groups = (group_N == group for group in np.unique(group_N))
    return [
        {
            "from_s": float(duration[rows].min()),
            "to_s": float(duration[rows].max()),
            "rows": int(rows.sum()),
            "explicit_share": float(explicit[rows].mean()),
            "watch_time_s": float(watched[rows].mean()),
            "watch_ratio": float(watched[rows].mean() / duration[rows].mean()),
        }
        for rows in groups
    ]


LABELS: Final = Experiment(
    name="labels",
    config=LabelsConfig,
    methods=METHODS,
    reference="labelcraft",
    load=load_evaluator,
    fit=fit_method,
    describe_fits=describe_fits,
    sections=sections,
    columns=(("nwtg", "NWTG", 4), ("neg", "NEG", 4), ("ds", "DS, s", 1)),
)
