"""`compare watch-time`: every watch-time head on one encoder and one log, next to boosted trees."""

# Shape suffixes: R test rows.

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from pydantic import Field

from models.arrays import F32, F64, I64
from models.errors import BadInput
from training.data import Protocol
from training.encoders import FeedbackEncoderConfig, batches_for, inputs_for, plain_names
from training.evaluation.predict import predict_seconds
from training.evaluation.seconds import SecondsEvaluator
from training.experiments.config import ExperimentConfig, MethodSpec
from training.experiments.data import ExperimentData, load_experiment_data
from training.experiments.engine import Experiment, medians
from training.experiments.jobs import Progress, Result
from training.experiments.trees import Target, features, fit_trees
from training.labels import Scale
from training.lda import LDA, LDAConfig
from training.rankers import TwoObjectiveRanker
from training.train.rankers import RankerEpoch, TrainerConfig, best_epoch_count, fit_ranker
from training.train.recipes import any_log
from training.watch_time import (
    CREAD,
    CWM,
    OR,
    TPM,
    VR,
    WLR,
    D2QSeconds,
    DistributionHead,
    Head,
    VRConfig,
)

MOST_RATIO: Final = 2.5
"""Watch ratio at which the histograms of anchors end."""
_TIMED_ROWS: Final = 2048
_REPEATS: Final = 5


@dataclass(frozen=True)
class Method(MethodSpec):
    """A head, boosted trees, or, with neither, the median."""

    head: Callable[[int, LDAConfig], Head] | None = None
    """Makes it for states of this width; `None` for rows without the encoder."""
    trees: Target | None = None
    """Boosted trees on what the encoder computes without parameters."""
    lda: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the experiment's `LDAConfig`."""


def _head(name: str, description: str, make: Callable[[int], Head], *, paper: bool = True) -> Method:
    return Method(name, description, paper=paper, head=lambda width, _: make(width))


def _lda(name: str, description: str, **changes: Any) -> Method:
    return Method(name, description, ablation=bool(changes), head=LDA, lda=changes)


def _ranked_vr(width: int, lda: LDAConfig) -> Head:
    return VR(width, VRConfig(loss=lda.loss, delta=lda.delta, rank=lda.rank, rank_error=lda.rank_error))


METHODS: Final = (
    _lda("lda", "label distributions as anchors"),
    _head("vr", "value regression, squared error", VR),
    _head("wlr", "weighted logistic regression: the odds are the seconds", WLR),
    _head("d2q", "quantile within the duration group, mapped back to seconds", D2QSeconds),
    _head("or", "ordinal regression over equal-frequency thresholds", OR),
    _head("cwm", "counterfactual watch time, complete plays censored", CWM),
    _head("tpm", "tree of binary questions about the interval of the watch time", TPM),
    _head("cread", "ordinal regression over error-adaptive thresholds", CREAD, paper=False),
    Method(
        "vr ranked",
        "value regression with LDA's loss: its effect without anchors",
        head=_ranked_vr,
    ),
    Method("lightgbm l1", "boosted trees, absolute error", trees="l1"),
    Method("lightgbm log", "boosted trees, squared error of log(1 + seconds)", trees="log_l2"),
    Method("median", "median watch time of the train days", constant=True),
    _lda("lda - rank", "no rank term in the loss", rank=0.0),
    _lda("lda - alignment", "no transport: free weights of the anchors", alignment=0.0),
    _lda("lda - anchors", "random anchors instead of learned ones", random_anchors=True),
    _lda("lda - label cost", "transport without the label, as on the poster", label_cost=0.0),
    _lda("lda median", "median of the distribution over anchors instead of the regressor", point="median"),
)
"""Every row, in the order of the report."""
HEADS: Final = {method.name: method for method in METHODS if method.head is not None}


class WatchTimeConfig(ExperimentConfig):
    """Everything that decides the figures of a comparison of heads besides the log."""

    all_tabs: bool = False
    """Report every tab; otherwise the dataset's main tab, where it names one."""
    protocol: Protocol | None = None
    """A published way of cutting a public log, instead of by days and tab; see `training.data`."""
    encoder: FeedbackEncoderConfig = Field(default_factory=lambda: any_log().encoder)
    """Of every head; by default as in the released bundle."""
    loop: TrainerConfig = Field(default_factory=lambda: any_log().loop.model_copy(update={"interest": 0.0}))
    """Steps, batches and rate of every head."""
    lda: LDAConfig = Field(default_factory=lambda: any_log().lda)
    """By default as in the released bundle."""


class WatchTimeEvaluator(SecondsEvaluator):
    """Predicted watch times on the test window of an experiment.

    Args:
        data: the log.
    """

    def __init__(self, data: ExperimentData) -> None:
        super().__init__(data.log, data.fitted, data.test)
        self.data = data

    def describe_window(self, rows: I64) -> dict[str, Any]:
        """Return mean and median watch time of rows."""
        watched = self.data.log.watch_time_s[rows]
        return {"mean_watch_time_s": float(watched.mean()), "median_watch_time_s": float(np.median(watched))}


def load_data(folder: Path, config: WatchTimeConfig) -> ExperimentData:
    """Read a log and cut it by days and tab, or by the config's protocol."""
    return load_experiment_data(
        folder,
        test_days=config.test_days,
        stop_days=config.stop_days,
        min_count=config.min_count,
        main_tab_only=not config.all_tabs,
        protocol=config.protocol,
    )


def load_evaluator(folder: Path, config: WatchTimeConfig) -> WatchTimeEvaluator:
    """Read a log and cut it."""
    return WatchTimeEvaluator(load_data(folder, config))


def fit_method(
    evaluator: WatchTimeEvaluator, name: str, config: WatchTimeConfig, seed: int, progress: Progress
) -> Result:
    """Fit a head, trees, or the median, and evaluate the seconds it predicts."""
    started = time.monotonic()
    data, method = evaluator.data, next(method for method in METHODS if method.name == name)
    seconds: F32 | F64
    if method.trees is not None:
        seconds, result = _fit_trees(data, method.trees, config, seed)
    elif method.head is not None:
        seconds, result = _fit_head(evaluator, method, config, seed, progress)
    else:
        median = np.median(data.log.watch_time_s[data.fitted])
        seconds = np.full(len(data.test), median, np.float32)
        result = {"parameters": 1, "epochs": 0, "microseconds": None}
    figures = evaluator.figures(seconds)
    if "calibration" in result:
        figures["coverage"] = result["calibration"]["coverage"]
    return {
        "figures": figures,
        "values": {figure: value.tolist() for figure, value in evaluator.values(seconds).items()},
        "by_duration": evaluator.by_duration(seconds),
        "by_prediction": evaluator.by_prediction(seconds),
        "seconds": time.monotonic() - started,
        **result,
    }


def fit_head(
    data: ExperimentData,
    method: Method,
    config: WatchTimeConfig,
    seed: int,
    progress: Progress,
    *,
    label: F32 | None = None,
) -> tuple[TwoObjectiveRanker, list[RankerEpoch]]:
    """Fit a method's head on a new encoder, and stop on the early-stop days.

    Args:
        data: the log.
        method: one of `HEADS`.
        config: encoder, loop and LDA.
        seed: the first encoder of a seed is the same for every head.
        progress: called with the finished share.
        label: one for each fitted row, which the interest head is fitted to at `config.loop.interest`;
            without, watch time has the encoder alone.
    """
    assert method.head is not None
    log, loop = data.log, config.loop
    torch.manual_seed(seed)
    encoder = data.new_encoder(config.encoder)
    head = method.head(config.encoder.width, config.lda.model_copy(update=dict(method.lda)))
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
        censored=data.dataset.censored(data.vocabulary),
        on_step=progress,
    )
    return ranker, epochs


def _fit_head(
    evaluator: WatchTimeEvaluator, method: Method, config: WatchTimeConfig, seed: int, progress: Progress
) -> tuple[F32, Result]:
    data, length = evaluator.data, config.loop.sequence_length
    ranker, epochs = fit_head(data, method, config, seed, progress)
    head = ranker.head
    seconds = predict_seconds(ranker, data.log, data.test, length)
    if not np.isfinite(seconds).all():
        raise BadInput(f"{method.name} diverged with seed {seed}: its predictions are not all finite.")
    interest = sum(p.numel() for p in ranker.interest.parameters())
    x = inputs_for(data.log, data.test[:_TIMED_ROWS], length)
    result: Result = {
        "parameters": sum(p.numel() for p in ranker.parameters()) - interest,
        "epochs": best_epoch_count(epochs),
        "microseconds": _row_us(lambda: ranker.seconds(x), len(x.context_ids)),
        "curve": [epoch._asdict() for epoch in epochs],
    }
    if isinstance(head, DistributionHead):
        batches = batches_for(data.log, data.test, length, batch=_TIMED_ROWS)
        with torch.no_grad():
            quantiles = [head.quantiles_s(*ranker.encoder(batch))[:, 0].numpy() for batch in batches]
        result["calibration"] = evaluator.calibration(np.concatenate(quantiles))
    if isinstance(head, LDA) and not method.ablation:
        result["anchors"] = _describe_anchors(head, data)
    return seconds, result


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


def _fit_trees(
    data: ExperimentData, target: Target, config: WatchTimeConfig, seed: int
) -> tuple[F64, Result]:
    encoder, log, length = data.new_encoder(config.encoder), data.log, config.loop.sequence_length
    seen = encoder.fit_tables(log, data.fitted, data.dataset.censored(data.vocabulary))
    encoder.eval()
    names, categories = plain_names(data.dataset.profile_numbers, data.dataset.profile_categories)
    train, stop, test = (
        features(encoder, log, rows, length, statistics)
        for rows, statistics in ((data.fitted, seen), (data.stop, None), (data.test, None))
    )
    watched = log.watch_time_s
    trees = fit_trees(
        target, (train, watched[data.fitted]), (stop, watched[data.stop]), categories, seed=seed
    )
    timed = test[:_TIMED_ROWS]
    return trees.seconds(test), {
        "parameters": trees.leaves,
        "epochs": int(trees.booster.num_trees()),
        "microseconds": _row_us(lambda: trees.seconds(timed), len(timed)),
        "gain": trees.gain(names),
    }


def _row_us(predict: Callable[[], object], rows: int) -> float:
    """Return a row's inference on this thread, the fastest of some runs, features at hand, µs."""
    seconds = []
    with torch.no_grad():
        for _ in range(_REPEATS):
            started = time.perf_counter()
            predict()
            seconds.append(time.perf_counter() - started)
    return min(seconds) / rows * 1e6


def describe_fits(method: Method, fits: Sequence[Result]) -> dict[str, Any]:
    """Return costs as medians over the seeds, and what figures are drawn from, of the first seed."""
    drawn = ("by_duration", "by_prediction", "calibration", "anchors", "gain", "curve")
    costs = medians(fits, ("parameters", "epochs", "microseconds", "seconds")) if fits else {}
    first = {name: fits[0][name] for name in drawn if name in fits[0]} if fits else {}
    return {"paper": method.paper, "ablation": method.ablation, **costs, **first}


WATCH_TIME: Final = Experiment(
    name="watch-time",
    config=WatchTimeConfig,
    methods=METHODS,
    reference="lda",
    load=load_evaluator,
    fit=fit_method,
    describe_fits=describe_fits,
    columns=(("mae_s", "MAE, s", 3), ("xauc", "XAUC", 4), ("xgauc", "XGAUC", 4)),
)
