"""`compare objectives`: every way of balancing many objectives, on one ranker and one log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from pydantic import Field
from torchjd.aggregation import (
    CAGradWeighting,
    GradVacWeighting,
    IMTLGWeighting,
    MGDAWeighting,
    PCGradWeighting,
)

from models.arrays import F32, I64
from models.errors import BadInput
from training.balance import Balancer, GradCraft
from training.encoders import FeedbackEncoderConfig, HistoryAt
from training.evaluation.objective_scores import ScoresEvaluator
from training.evaluation.predict import predict_objectives
from training.experiments.config import ExperimentConfig, MethodSpec
from training.experiments.cost import step_costs
from training.experiments.data import ExperimentData, load_experiment_data
from training.experiments.engine import Experiment, Fits, medians
from training.experiments.jobs import Progress, Result
from training.experiments.results import Row, encode
from training.labels import Scale
from training.rankers import NAMES, WATCH_TIME, MultiObjectiveRanker, ObjectivesConfig, outcomes
from training.train.calibration import calibrate
from training.train.rankers import TrainerConfig, best_epoch_count, fit_objectives
from training.train.recipes import any_log
from training.watch_time import VR, VRConfig

ALL: Final = (WATCH_TIME, *NAMES)
CAGRAD_C: Final = 0.4
"""c of CAGrad, as in its paper's experiments on multi-task datasets."""


@dataclass(frozen=True)
class Method(MethodSpec):
    """A balancer, or what replaces it."""

    balancer: Callable[[ObjectivesConfig], Balancer] | None = None
    """Makes a new one for each fit (some remember earlier steps); `None` adds the losses up."""
    separate: bool = False
    """Whether every objective has a ranker of its own instead."""
    by_entropy: bool = False
    """Whether losses are added up over their outcomes' entropies."""


METHODS: Final = (
    Method(
        "gradcraft",
        "gradient lengths brought closer, then all conflicts removed at once",
        balancer=lambda c: GradCraft(c.tau, c.epsilon),
    ),
    Method("single", "a separate ranker for each objective", separate=True),
    Method("entropy", "sum of the losses over their outcomes' entropies", by_entropy=True),
    Method("equal", "sum of the losses"),
    Method("pcgrad", "conflicts projected away one after the other", balancer=lambda _: PCGradWeighting()),
    Method("mgda", "shortest vector in the convex hull of the gradients", balancer=lambda _: MGDAWeighting()),
    Method(
        "cagrad",
        "near the mean gradient, largest gain for the worst objective",
        balancer=lambda _: CAGradWeighting(CAGRAD_C),
    ),
    Method("imtl", "equal projections on every gradient (IMTL-G)", balancer=lambda _: IMTLGWeighting()),
    Method("gradvac", "cosines raised to their running mean", balancer=lambda _: GradVacWeighting()),
    Method(
        "gradcraft τ=0",
        "conflicts removed, lengths unchanged",
        ablation=True,
        balancer=lambda c: GradCraft(0.0, c.epsilon),
    ),
    Method(
        "gradcraft τ=1",
        "all lengths made equal, then conflicts removed",
        ablation=True,
        balancer=lambda c: GradCraft(1.0, c.epsilon),
    ),
)
"""Every row, in the order of the report. TorchJD has all balancers but GradCraft."""


def _watch_time_head() -> VRConfig:
    """LDA's loss without its anchors: the same order (`reports/watch-time-kuairand-pure`), and faster."""
    lda = any_log().lda
    return VRConfig(loss=lda.loss, delta=lda.delta, rank=lda.rank, rank_error=lda.rank_error)


class ObjectivesExperimentConfig(ExperimentConfig):
    """Everything that decides the figures of a comparison of balancers besides the log."""

    encoder: FeedbackEncoderConfig = Field(default_factory=lambda: any_log().encoder)
    """Of every method; by default as in the released bundle."""
    loop: TrainerConfig = TrainerConfig(
        epochs=3, learning_rate=1e-3, weight_decay=1e-2, average=0.98, sequence_length=30
    )
    """Steps, batches and rate of every method."""
    objectives: ObjectivesConfig = ObjectivesConfig()
    """The weight of `entropy`, and GradCraft's hyperparameters."""
    watch_time: VRConfig = Field(default_factory=_watch_time_head)
    """The watch-time head of every method."""


class ObjectivesEvaluator(ScoresEvaluator):
    """Predicted objectives on the test window of an experiment.

    Args:
        data: the log.
    """

    def __init__(self, data: ExperimentData) -> None:
        super().__init__(data.log, data.test)
        self.data = data

    def describe_window(self, rows: I64) -> dict[str, Any]:
        """Return on how many rows each outcome happened."""
        counts = outcomes(self.data.log.feedback[rows]).sum(axis=0).astype(int)
        return {"happened": dict(zip(NAMES, counts.tolist(), strict=True))}


def load_evaluator(folder: Path, config: ObjectivesExperimentConfig) -> ObjectivesEvaluator:
    """Read a log and cut it."""
    return ObjectivesEvaluator(
        load_experiment_data(
            folder, test_days=config.test_days, stop_days=config.stop_days, min_count=config.min_count
        )
    )


def new_ranker(
    data: ExperimentData, config: ObjectivesExperimentConfig, seed: int, objectives: tuple[str, ...] = ALL
) -> MultiObjectiveRanker:
    """Return an unfitted ranker; the encoders of one seed are the same for every method."""
    torch.manual_seed(seed)
    encoder = data.new_encoder(config.encoder)
    head = VR(config.encoder.width, config.watch_time).fit_tables(data.log.take(data.fitted), seed=seed)
    return MultiObjectiveRanker(encoder, head, Scale(), objectives)


def fit_method(
    evaluator: ObjectivesEvaluator,
    name: str,
    config: ObjectivesExperimentConfig,
    seed: int,
    progress: Progress,
) -> Result:
    """Fit the ranker of all objectives under one balancer, or one ranker for each objective, and evaluate."""
    data, method = evaluator.data, next(method for method in METHODS if method.name == name)
    started, started_cpu = time.monotonic(), time.process_time()
    parts = [(objective,) for objective in ALL] if method.separate else [ALL]
    raw: dict[str, F32] = {}
    by_row: dict[str, F32] = {}
    by_request: dict[str, F32] = {}
    result: Result = {"parameters": 0}
    for i, part in enumerate(parts):
        ranker = new_ranker(data, config, seed, part)
        epochs = fit_objectives(
            ranker,
            data.log,
            data.fitted,
            config.loop,
            method.balancer(config.objectives) if method.balancer else None,
            seed=seed,
            weight=config.objectives.weight if method.by_entropy else None,
            stop_rows=data.stop,
            censored=data.dataset.censored(data.vocabulary),
            on_step=lambda share, i=i: progress((i + share) / len(parts)),  # type: ignore[misc]  # default of a loop
        )
        result["parameters"] += sum(p.numel() for p in ranker.parameters())
        raw |= _predict(data, ranker, config)
        calibrate(ranker, data.log, data.stop, config.loop.sequence_length)
        by_row |= _predict(data, ranker, config)
        by_request |= _predict(data, ranker, config, history_at="request")
        if not method.separate:
            result |= {
                "curve": [epoch._asdict() for epoch in epochs],
                "epochs": best_epoch_count(epochs),
            }
    if not all(np.isfinite(score).all() for score in (*by_row.values(), *by_request.values())):
        raise BadInput(f"{name} diverged with seed {seed}: its predictions are not all finite.")
    raw_figures = {f"raw_{figure}": value for figure, value in evaluator.calibration(raw).items()}
    values = evaluator.values(by_row, by_request)
    return result | {
        "figures": evaluator.figures(by_row, by_request) | raw_figures,
        "values": {figure: encode(value) for figure, value in values.items()},
        "seconds": time.monotonic() - started,
        "cpu_s": time.process_time() - started_cpu,
    }


def _predict(
    data: ExperimentData,
    ranker: MultiObjectiveRanker,
    config: ObjectivesExperimentConfig,
    *,
    history_at: HistoryAt = "row",
) -> dict[str, F32]:
    length = config.loop.sequence_length
    predicted = predict_objectives(ranker, data.log, data.test, length, history_at=history_at)
    scores = {name: predicted.probability[:, t] for t, name in enumerate(ranker.likely)}
    return scores if predicted.seconds is None else {WATCH_TIME: predicted.seconds} | scores


def describe_fits(method: Method, fits: Sequence[Result]) -> dict[str, Any]:
    """Return costs as medians over the seeds, and the learning curve of the first seed."""
    costs = medians(fits, ("parameters", "seconds", "cpu_s", "epochs"))
    curve = {"curve": fits[0]["curve"]} if fits and "curve" in fits[0] else {}
    return {"ablation": method.ablation, **costs, **curve}


def sections(
    evaluator: ObjectivesEvaluator,
    config: ObjectivesExperimentConfig,
    methods: Sequence[Method],
    rows: Sequence[Row],
    fits: Fits,
) -> dict[str, Any]:
    """Return what a training step costs under each balancer."""
    timed = [method for method in methods if not method.separate and not method.ablation]
    balancers = {m.name: m.balancer(config.objectives) if m.balancer else None for m in timed}
    data = evaluator.data
    ranker = new_ranker(data, config, config.seed)
    return {"costs": step_costs(data, ranker, balancers, config.loop, seed=config.seed)}


OBJECTIVES: Final = Experiment(
    name="objectives",
    config=ObjectivesExperimentConfig,
    methods=METHODS,
    reference="gradcraft",
    load=load_evaluator,
    fit=fit_method,
    describe_fits=describe_fits,
    sections=sections,
    columns=(("auc", "mean AUC", 4), ("gauc", "mean GAUC", 4)),
)
