"""`compare language`: the next long view among the whole catalogue, on a log and among planted users."""

# Shape suffixes: R targets, E long views, U users, V rows of the vocabulary, S seen videos.

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.arrays import F64, I64, Bools
from models.errors import BadInput
from models.vocabulary import FIRST, PADDING
from training.data import day_numbers
from training.evaluation.bootstrap import Measure
from training.experiments.data import ExperimentData, load_experiment_data
from training.experiments.engine import Experiment, Fits, medians
from training.experiments.jobs import Progress, Result
from training.experiments.language.config import NextVideoConfig, PlantedConfig
from training.experiments.language.methods import METHODS, Method
from training.experiments.language.planted import plant
from training.experiments.language.ranking import (
    Rank,
    by_model,
    by_popularity,
    exact_agreement,
    exchanged,
    gains,
    hits,
    positions,
    timed,
)
from training.experiments.language.serving import measure_serving
from training.experiments.results import Row, encode
from training.language import (
    FittedLanguage,
    LanguageConfig,
    SemanticIds,
    fit_language,
    fit_semantic_ids,
    histories,
    one_token_ids,
    read_long_views,
    training_windows,
    video_features,
)

CUTS: Final = (5, 10, 20)
_POPULAR: Final = 400
"""Videos of a ranking by popularity, of which seen ones are taken out."""
_PLANTED_BEAMS: Final = 20
_POPULAR_DAYS: Final = (1, 2, 3, 7, 365)


class LanguageEvaluator:
    """The long views of a log, those to predict, and the catalogue.

    Args:
        data: the log.
        config: of the comparison.
    """

    def __init__(self, data: ExperimentData, config: NextVideoConfig) -> None:
        self.data, self.config = data, config
        log, train = data.log, data.train
        self.videos = data.vocabulary.size("video_id")
        shown_V = np.bincount(log.ids[train, 0], minlength=self.videos)
        before_V = np.bincount(log.history_ids.ravel(), minlength=self.videos)
        self.known = FIRST + np.flatnonzero((shown_V + before_V)[FIRST:]).astype(np.int64)
        """The catalogue: every video shown before the early-stop days."""
        self.is_tail = shown_V < np.quantile(shown_V[self.known], config.tail)
        """`[V]`"""
        self.views = views = read_long_views(log)
        self.learned_E = np.isin(views.row, train)
        stop_E = np.flatnonzero(np.isin(views.row, data.stop))
        test_E = np.flatnonzero(np.isin(views.row, data.test))
        if not (self.learned_E.any() and len(stop_E) and len(test_E)):
            raise BadInput("a window has no long view of a known video; use a longer log.")
        self.possible = len(test_E)
        drawn = np.random.default_rng(config.seed).permutation(len(test_E))[: config.targets]
        self.target = test_E[np.sort(drawn)]
        """`[R]` long views to predict."""
        self.stop = stop_E
        self.users, self.user_R = np.unique(views.user[self.target], return_inverse=True)
        self.shown_before = self._shown_before()
        target_video_R = views.video[self.target]
        self.is_new = ~(self.shown_before == target_video_R[:, None]).any(axis=1)
        """`[R]` targets that the user was not shown before."""
        self.in_tail = self.is_tail[target_video_R]
        """`[R]`"""
        self.popular, self.popular_days = self._popular()
        self._ids: dict[int, SemanticIds] = {}

    @property
    def measures(self) -> Mapping[str, Measure]:
        """Means over the targets."""
        every_R = np.ones(len(self.target), np.bool_)
        all_U, new_U, tail_U = (self._count(part_R) for part_R in (every_R, self.is_new, self.in_tail))
        names = [f"{figure}@{k}" for k in CUTS for figure in ("hr", "ndcg")]
        out = {name: Measure(name, all_U) for name in (*names, "reliance")}
        out |= {f"unseen/{name}": Measure(f"unseen/{name}", new_U) for name in names}
        return out | {f"tail/{name}": Measure(f"tail/{name}", tail_U) for name in ("hr@10", "ndcg@10")}

    def describe_window(self, rows: I64) -> dict[str, Any]:
        """Return the long views of known videos in a window."""
        return {"long_views": int(np.isin(self.views.row, rows).sum())}

    def ids(self, seed: int) -> SemanticIds:
        """Return the semantic ids of a seed."""
        if seed not in self._ids:
            feature_VC = video_features(self.data.log, self.data.train, self.known, self.videos)
            self._ids = {seed: fit_semantic_ids(feature_VC, self.known, self.config.ids, seed=seed)}
        return self._ids[seed]

    def fit(self, ids: SemanticIds, config: LanguageConfig, seed: int, progress: Progress) -> FittedLanguage:
        """Fit on the long views before the early-stop days, which choose the epoch.

        Those before the log are read and not learned: what is watched changes within days.
        """
        views, length = self.views, config.length
        before_E = views.row < 0
        windows = training_windows(views, before_E | self.learned_E, self.learned_E, length)
        is_stop_E = np.zeros(len(views.row), np.bool_)
        is_stop_E[self.stop] = True
        stop = training_windows(views, before_E | self.learned_E | is_stop_E, is_stop_E, length)
        return fit_language(windows, ids, config, stop=stop, seed=seed, on_progress=progress)

    def popularity(self) -> Rank:
        """Rank by popularity."""
        return by_popularity(self.popular)

    def figures(self, rank: Rank, length: int, seed: int) -> tuple[dict[str, float | None], dict[str, F64]]:
        """Return the figures of a ranking, and the values of users that they are means of."""
        windows = histories(self.views, self.target, length)
        video_R = self.views.video[self.target]
        ranked, user_ms = timed(rank, windows)
        position_R = positions(ranked, video_R)
        other_R = positions(rank(exchanged(windows, seed)), video_R)
        unseen_R = positions(ranked, video_R, self.shown_before)
        every_R = np.ones(len(video_R), np.bool_)
        value_R = {"reliance": (gains(position_R, 10) - gains(other_R, 10), every_R)}
        for k in CUTS:
            for name, figure in (("hr", hits), ("ndcg", gains)):
                value_R[f"{name}@{k}"] = (figure(position_R, k), every_R)
                value_R[f"unseen/{name}@{k}"] = (figure(unseen_R, k), self.is_new)
                for part, is_part_R in (("tail", self.in_tail), ("head", ~self.in_tail)):
                    value_R[f"{part}/{name}@{k}"] = (figure(position_R, k), is_part_R)
        figures: dict[str, float | None] = {"user_ms": user_ms}
        values = {}
        for name, (value, is_part_R) in value_R.items():
            figures[name] = float(value[is_part_R].mean()) if is_part_R.any() else None
            values[name] = self._user_means(value, is_part_R)
        return figures, {
            name: values[name] for name in {measure.values for measure in self.measures.values()}
        }

    def _count(self, is_part_R: Bools) -> F64:
        """Return the targets of every user, `[U]`."""
        return np.bincount(self.user_R, is_part_R, minlength=len(self.users)).astype(np.float64)

    def _user_means(self, value_R: F64, is_part_R: Bools) -> F64:
        total_U = np.bincount(self.user_R, value_R * is_part_R, minlength=len(self.users))
        out: F64 = total_U / np.maximum(self._count(is_part_R), 1)
        return out

    def _shown_before(self) -> I64:
        """Return what users were shown before each target, `[R, S]`, 0 on padding."""
        log, views, target = self.data.log, self.views, self.target
        first_R = np.searchsorted(log.user, views.user[target], side="left")
        count_R = views.row[target] - first_R
        at_RS = np.arange(int(count_R.max(initial=0)))
        is_real = at_RS < count_R[:, None]
        shown_RS = np.where(is_real, log.ids[np.where(is_real, first_R[:, None] + at_RS, 0), 0], PADDING)
        return np.concatenate([log.history_ids[views.user[target]], shown_RS], axis=1)

    def _popular(self) -> tuple[I64, int]:
        """Return videos by long views, of as many days as predict the early-stop day best, and the days."""
        views, hours = self.views, self.data.dataset.info.utc_offset_hours
        day_E = day_numbers(views.timestamp_ms, hours)
        last = day_E[self.learned_E].max()
        best: tuple[float, int, I64] | None = None
        for days in _POPULAR_DAYS:
            part_E = self.learned_E & (day_E > last - days)
            count_V = np.bincount(views.video[part_E], minlength=self.videos)
            popular_W = self.known[np.argsort(-count_V[self.known], kind="stable")][:_POPULAR]
            target_R = views.video[self.stop]
            ndcg = gains(positions(np.tile(popular_W, (len(target_R), 1)), target_R), 10).mean()
            if best is None or ndcg > best[0]:
                best = (float(ndcg), min(days, int(last - day_E[self.learned_E].min()) + 1), popular_W)
        assert best is not None
        return best[2], best[1]


def load_evaluator(folder: Path, config: NextVideoConfig) -> LanguageEvaluator:
    """Read a log and cut its last days off."""
    data = load_experiment_data(
        folder, test_days=config.test_days, stop_days=config.stop_days, min_count=config.min_count
    )
    return LanguageEvaluator(data, config)


def fit_method(
    evaluator: LanguageEvaluator, name: str, config: NextVideoConfig, seed: int, progress: Progress
) -> Result:
    """Fit one row on the log and among planted users."""
    method, started = _method(name), time.process_time()
    on_planted = planted_figures(method, config.planted, seed)
    progress(0.1)
    length = config.learning.length
    more: dict[str, Any] = {}
    if method.kind == "popularity":
        rank = evaluator.popularity()
    else:
        is_sasrec = method.kind == "sasrec"
        ids = one_token_ids(evaluator.known, evaluator.videos) if is_sasrec else evaluator.ids(seed)
        learning = config.sasrec if is_sasrec else config.learning.model_copy(update=dict(method.changes))
        fitted = evaluator.fit(ids, learning, seed, lambda share: progress(0.1 + 0.6 * share))
        rank = by_model(fitted, evaluator.popular, config.beams)
        more = {"step_ms": 1000 * fitted.step_s, "epochs": fitted.best_epoch + 1}
        if not is_sasrec:
            some = histories(evaluator.views, evaluator.target[: config.exact], length)
            more["exact_agreement"] = exact_agreement(fitted, some, config.beams)
    figures, values = evaluator.figures(rank, length, seed)
    return {
        "figures": figures | {f"planted/{key}": value for key, value in on_planted.items()},
        "values": {key: encode(value) for key, value in values.items()},
        "cpu_s": time.process_time() - started,
        **more,
    }


def planted_figures(method: Method, config: PlantedConfig, seed: int) -> dict[str, float]:
    """Return NDCG, what of it is lost with histories of others, and the hit rate of the long tail."""
    world = plant(config, seed)
    views, videos = world.views, len(world.ids.token)
    known_E = np.ones(len(views.user), np.bool_)
    known_E[world.target] = False
    count_V = np.bincount(views.video[known_E], minlength=videos)
    popular = world.ids.catalogue[np.argsort(-count_V[world.ids.catalogue], kind="stable")]
    if method.kind == "popularity":
        rank = by_popularity(popular)
    else:
        is_sasrec = method.kind == "sasrec"
        ids = one_token_ids(world.ids.catalogue, videos) if is_sasrec else world.ids
        plain = {"effect_weight": 0.0, "last_weight": 1.0, "actions": False}
        changes = plain if is_sasrec else dict(method.changes)
        learning = config.learning.model_copy(update=changes)
        windows = training_windows(views, known_E, known_E, learning.length)
        fitted = fit_language(windows, ids, learning, seed=seed)
        rank = by_model(fitted, popular, _PLANTED_BEAMS)
    windows = histories(views, world.target, config.learning.length)
    target_R = views.video[world.target]
    position_R = positions(rank(windows), target_R)
    other_R = positions(rank(exchanged(windows, seed)), target_R)
    ndcg = float(gains(position_R, 10).mean())
    return {
        "ndcg@10": ndcg,
        "reliance": ndcg - float(gains(other_R, 10).mean()),
        "tail/hr@10": float(hits(position_R, 10)[world.is_tail[target_R]].mean()),
    }


def describe_fits(method: Method, fits: Sequence[Result]) -> dict[str, Any]:
    """Return the costs, and how often beams are exact."""
    agreement = [fit["exact_agreement"] for fit in fits if "exact_agreement" in fit]
    return {
        "ablation": method.ablation,
        **medians(fits, ("cpu_s", "step_ms", "epochs")),
        "exact_agreement": float(np.mean(agreement)) if agreement else None,
    }


def sections(
    evaluator: LanguageEvaluator,
    config: NextVideoConfig,
    methods: Sequence[Method],
    rows: Sequence[Row],
    fits: Fits,
) -> dict[str, Any]:
    """Return the size of the task, and what scores of candidates would cost in a service."""
    lengths = (histories(evaluator.views, evaluator.target, config.learning.length).video > 0).sum(axis=1)
    return {
        "task": {
            "catalogue": len(evaluator.known),
            "possible_targets": evaluator.possible,
            "targets": len(evaluator.target),
            "users": len(evaluator.users),
            "unseen": int(evaluator.is_new.sum()),
            "tail": int(evaluator.in_tail.sum()),
            "history": float(lengths.mean()),
            "without_history": int((lengths == 0).sum()),
            "popular_days": evaluator.popular_days,
        },
        "serving": measure_serving(evaluator.ids(config.seed), evaluator.known, config.learning),
    }


def _method(name: str) -> Method:
    return next(method for method in METHODS if method.name == name)


LANGUAGE: Final = Experiment(
    name="language",
    config=NextVideoConfig,
    methods=METHODS,
    reference="cft",
    load=load_evaluator,
    fit=fit_method,
    describe_fits=describe_fits,
    sections=sections,
    columns=(
        ("ndcg@10", "NDCG@10", 4),
        ("hr@10", "HR@10", 4),
        ("tail/hr@10", "long tail HR@10", 4),
        ("reliance", "lost if shuffled", 4),
    ),
)
