"""Fit a label maker: alternate both levels until the recommender stops getting better."""

# Shape suffixes: N rows of the log, R rows picked.

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from models.arrays import F32, I64
from models.errors import BadInput
from training.data import Interactions
from training.encoders import DIN, DinRows
from training.labelcraft._config import LabelCraftConfig
from training.labelcraft._hold_out import HoldOut
from training.labelcraft._model import LabelCraft
from training.labelcraft._objectives import OBJECTIVES, Objective
from training.labelcraft._step import BilevelLearner, StepMetrics
from training.labelcraft._warm_start import warm_start
from training.labels import Scale, labels_of
from training.strata import DurationGroups
from training.train.checkpoints import Checkpoint, RandomState
from training.train.trainer import Evaluation, StepResult, TrainerState, early_stop_nwtg
from training.train.trainer import train as train_model

Curve = list[dict[str, Any]]
"""One entry an epoch: `epoch`, `loss`, `seconds`, `label_mean`, `label_std`, `nwtg`, and for each objective
its mean and weight."""


@dataclass(frozen=True)
class FittedLabels:
    """Both levels at the epoch that early stopping chose."""

    label_maker: LabelCraft
    """g_φ, frozen, in evaluation mode."""
    recommender: DIN
    """f_θ, trained on its labels."""
    prepared: DinRows
    """The log as the recommender reads it."""
    best_epoch: int
    """Counted from 0. Without early-stop rows the last one."""
    curves: Curve
    distance: float
    """Root mean square change of the train rows' labels from their start, both in their deviations."""

    def score(self, rows: I64) -> F32:
        """Return `[R]` probabilities of rows of the log it was fitted on, each with its own history."""
        return predict(self.recommender, self.prepared, rows)


def fit_labelcraft(
    log: Interactions,
    train: I64,
    meta: I64,
    stop: I64 | None,
    config: LabelCraftConfig | None = None,
    *,
    seed: int = 0,
    objectives: Mapping[str, Objective] = OBJECTIVES,
    on_progress: Callable[[float], None] = lambda _: None,
    checkpoint: Checkpoint | None = None,
) -> FittedLabels:
    """Learn labels.

    Args:
        log: every exposure; histories reach back over all of it, never forward.
        train: rows of the inner level, ascending.
        meta: rows the platform's objectives are measured on.
        stop: rows of early stopping, user-weighted NWTG@k; `None` makes `config.epochs` epochs.
        config: hyperparameters.
        seed: decides the initial weights, the order of the rows and the held-out users of a step.
        objectives: what the platform wants, by name.
        on_progress: called after each step with the share of the work that is done at most.
        checkpoint: written after each epoch, and continued from; the same log, rows, config and seed must
            be given again.

    Raises:
        BadInput: no training rows, no user with more than k held-out rows, or no explicit feedback while
            that objective is on: each would learn nothing, silently. Or the fit diverged.

    Source: LabelCraft, WSDM 2024. Deviation: the authors stop early on the rows they measure M on; here they
    are apart unless `config.shared_hold_out`.
    """
    config = config or LabelCraftConfig()
    if not len(train):
        raise BadInput("there are no rows to train labels on; check the dates of the split.")
    if config.shared_hold_out and stop is not None:
        meta = stop = np.union1d(meta, stop)
    known = log.take(train)
    torch.manual_seed(seed)
    label_maker = LabelCraft(config).fit(known)
    if config.warm_start:
        warm_start(label_maker, known, seed=seed)
    edges: F32 = DurationGroups(config.duration_groups).fit(known.duration_s).edges.numpy()
    prepared = DinRows(log, edges[np.isfinite(edges)], config.history)
    torch.manual_seed(seed + 1)  # the recommender starts alike however much the label maker drew
    recommender = DIN(**prepared.table_rows, config=config.recommender)
    start_N = labels_of(label_maker, known)
    mean = float(start_N.mean()) if config.hold_level else None
    learner = BilevelLearner(recommender, label_maker, config, objectives, mean)
    hold_out = None if learner.frozen else _hold_out(learner, log, known, meta, prepared)

    feedback, random = torch.from_numpy(log.feedback), np.random.default_rng(seed)
    model = nn.ModuleList([recommender, label_maker])
    state = TrainerState()
    steps: list[StepMetrics] = []

    def batches() -> list[I64]:
        steps.clear()
        return np.array_split(random.permutation(len(train)), -(-len(train) // config.batch_size))

    def step(pick: I64) -> StepResult:
        rows = train[pick]
        users = None
        if hold_out is not None:
            count = max(1, round(config.user_share * len(hold_out)))
            users = hold_out.sample(
                np.sort(random.choice(len(hold_out), count, replace=False)).astype(np.int64)
            )
        metrics = learner.step(
            prepared.alone(rows),
            feedback[torch.from_numpy(rows)],
            users,
            freeze_labels=state.next_epoch < config.warmup_epochs,
        )
        steps.append(metrics)
        return StepResult((metrics.loss,))

    def evaluate(_: nn.Module) -> Evaluation:
        with torch.no_grad():
            label_N = label_maker(feedback[torch.from_numpy(train)])
        metrics: dict[str, Any] = {
            "label_mean": float(label_N.mean()),
            "label_std": float(label_N.std(correction=0)),
            **_objective_means(steps, list(learner.objectives)),
            "nwtg": None,
        }
        if stop is None:
            return Evaluation(None, metrics)
        nwtg = early_stop_nwtg(log, stop, predict(recommender, prepared, stop), config.k)
        # Nothing was learned yet in a warm-up: such an epoch is none to choose.
        error = None if state.next_epoch < config.warmup_epochs else -nwtg
        return Evaluation(error, {**metrics, "nwtg": nwtg})

    train_model(
        model,
        batches,
        step,
        evaluate,
        epochs=config.epochs,
        rates=f"lr_recommender = {config.lr_recommender:g}, lr_embeddings = "
        f"{config.lr_embeddings or config.lr_recommender:g}, lr_labels = {config.lr_labels:g}",
        patience=config.patience,
        min_gain=config.min_gain,
        max_seconds=config.max_seconds,
        on_step=on_progress,
        state=state,
        checkpoint=checkpoint,
        stateful=(learner, RandomState(random)),
    )
    curves = [
        {"epoch": e.epoch, "loss": e.losses[0], **e.metrics, "seconds": e.seconds} for e in state.epochs
    ]
    distance = _distance(start_N, labels_of(label_maker, known))
    return FittedLabels(label_maker, recommender, prepared, state.best_epoch, curves, distance)


def predict(recommender: DIN, prepared: DinRows, rows: I64, batch: int = 4096) -> F32:
    """Return `[R]` float32 probabilities of rows of a log, each with its own history."""
    parts = [np.zeros(0, np.float32)]
    with torch.no_grad():
        for start in range(0, len(rows), batch):
            z_B1 = recommender(*prepared.alone(rows[start : start + batch]))
            parts.append(torch.sigmoid(z_B1[:, 0]).numpy())
    return np.concatenate(parts)


def _hold_out(
    learner: BilevelLearner, log: Interactions, known: Interactions, meta: I64, prepared: DinRows
) -> HoldOut:
    """The outer level's users."""
    config = learner.config
    hold_out = HoldOut(
        log,
        meta,
        prepared,
        watch_scale=Scale(name="watch time", linear=not config.scaling).fit(known.watch_time_s),
        duration_scale=Scale(name="duration", linear=not config.scaling).fit(known.duration_s),
        k=config.k,
    )
    if not len(hold_out):
        raise BadInput(
            f"no user has more than k = {config.k} exposures among the {len(meta)} of the meta hold-out, so "
            "no slate can be chosen; widen its days or lower k."
        )
    if "engagement" in learner.objectives and config.disable != "engagement" and not log.explicit[meta].any():
        raise BadInput(
            "no exposure of the meta hold-out has explicit feedback (like, follow, comment, forward), so "
            'engagement cannot be learned; widen its days or set `disable="engagement"`.'
        )
    return hold_out


def _distance(start_N: F32, end_N: F32) -> float:
    standardised = [(y - y.mean()) / max(float(y.std()), 1e-9) for y in (start_N, end_N)]
    return float(np.sqrt(np.square(standardised[1] - standardised[0]).mean()))


def _objective_means(steps: list[StepMetrics], names: list[str]) -> dict[str, float]:
    """Means over the steps that had an outer step."""
    outer = [step for step in steps if step.objectives]
    if not outer:
        return {}
    means: dict[str, float] = {}
    for t, name in enumerate(names):
        means[name] = float(np.mean([step.objectives[t] for step in outer]))
        means[f"weight.{name}"] = float(np.mean([step.weights[t] for step in outer]))
    return {**means, "gradient_norm": float(np.mean([step.gradient_norm for step in outer]))}
