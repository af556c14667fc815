"""Fit rankers with the trainer: one step function and one evaluation for each kind of ranker."""

# Shape suffixes: R rows, T objectives.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeVar

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from models.arrays import F32, F64, I64
from models.metrics import auc, mae_s, xauc
from training.config import Config
from training.data import Interactions
from training.device import checked_device, constants_on
from training.encoders import RankerInputs, inputs_for
from training.evaluation.predict import ObjectivePredictions, predict_objectives, predict_seconds
from training.rankers import (
    INTEREST,
    WATCH_TIME,
    MultiObjectiveRanker,
    TwoObjectiveRanker,
    outcomes,
    outcomes_with,
)
from training.train.checkpoints import Checkpoint, RandomState
from training.train.counterfactual import Counterfactuals
from training.train.process_group import average, on_first, processes, rank, share_of
from training.train.trainer import EpochResult, Evaluation, StepResult, TrainerState, train

if TYPE_CHECKING:
    from training.balance import Balancer

R = TypeVar("R", TwoObjectiveRanker, MultiObjectiveRanker)


class TrainerConfig(Config):
    """Hyperparameters of a ranker's fit. No source gives them: chosen on the early-stop split."""

    epochs: PositiveInt = 6
    """At most this many passes over the training rows."""
    patience: PositiveInt = 2
    """Epochs without a lower early-stop error before stopping."""
    batch_size: PositiveInt = 512
    learning_rate: PositiveFloat = 1e-3
    """AdamW's, falling to a tenth of it along a cosine over `epochs`."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    average: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """What is evaluated and kept is a running mean of the parameters, which each step moves by 1 - average of
    the way, by more in the first steps; 0 keeps the last step's. Steps are noisy on small logs."""
    interest: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the interest loss beside the watch-time loss."""
    counterfactual: Annotated[float, Field(ge=0)] = 0.0
    """Weight of what one more exposure must do to its author's candidates, see `Counterfactuals`."""
    counterfactual_rows: PositiveInt = 64
    """Rows of a batch that this is asked of: each takes seven more passes."""
    sequence_length: PositiveInt = 100
    """Most steps of a sequence, the newest."""
    device: str = "cpu"
    """Where the steps are computed, by PyTorch's name. Labels, tables and boosted trees are the CPU's."""


class RankerEpoch(NamedTuple):
    """One epoch of a ranker of watch time and interest."""

    epoch: int
    watch_loss: float
    interest_loss: float
    stop_mae_s: float | None
    stop_xauc: float | None
    error: float | None = None
    """Early-stopping criterion, where that is not the MAE."""

    @property
    def stop_error(self) -> float:
        """Early-stopping criterion, lower is better."""
        return (self.stop_mae_s if self.error is None else self.error) or 0.0


class ObjectivesEpoch(NamedTuple):
    """One epoch of a ranker of many objectives."""

    epoch: int
    losses: dict[str, float]
    """Mean over the steps, by objective."""
    stop_auc: float | None
    """Mean over the objectives of AUC, and XAUC of watch time, on the early-stop rows."""
    stop_xauc: float | None
    """XAUC of watch time."""

    @property
    def stop_error(self) -> float:
        """Early-stopping criterion, lower is better."""
        return -(self.stop_auc or 0.0)


def best_epoch_count(epochs: Sequence[RankerEpoch] | Sequence[ObjectivesEpoch]) -> int:
    """Return how many epochs early stopping kept: up to the lowest error, the first of equals."""
    return 1 + min(range(len(epochs)), key=lambda i: epochs[i].stop_error)


def fit_ranker(
    ranker: TwoObjectiveRanker,
    log: Interactions,
    rows: I64,
    label: F32,
    config: TrainerConfig,
    *,
    seed: int,
    stop_rows: I64 | None = None,
    stop_after: int | None = None,
    stop_error: Callable[[TwoObjectiveRanker, F32], float] | None = None,
    censored: tuple[F64, F64, F64] | None = None,
    on_step: Callable[[float], None] = lambda _: None,
    on_epoch: Callable[[EpochResult], None] = lambda _: None,
    checkpoint: Checkpoint | None = None,
) -> list[RankerEpoch]:
    """Fit a ranker of watch time and interest in place.

    Args:
        ranker: its head's tables are fitted; its encoder's are fitted here, on `rows`.
        log: every exposure; sequences reach back over all of it.
        rows: `[R]` training rows.
        label: `[R]` LabelCraft's label of each of `rows`.
        config: hyperparameters.
        seed: decides the order of the rows, dropout and id dropout.
        stop_rows: early-stop rows. The parameters of the epoch with the lowest error are kept; without them
            those of the last epoch.
        stop_after: make this many of `config.epochs`, on the same schedule: how a release fit repeats
            the length that early stopping found.
        stop_error: the ranker and its seconds of the early-stop rows -> their error; by default the MAE.
        censored: what is known of videos before the log, see `Dataset.censored`.
        on_step: called with the share of the work that is done.
        on_epoch: called after each epoch.
        checkpoint: written after each epoch, and continued from.

    Returns:
        One entry an epoch.
    """
    target_R1 = torch.from_numpy(label)[:, None]

    def backward(x: RankerInputs, statistics: Tensor, watch_time: Tensor, target: Tensor) -> Sequence[float]:
        watch, interest = ranker.loss(x, statistics, watch_time, target[..., 0])
        (watch + config.interest * interest).backward()  # type: ignore[no-untyped-call]
        return float(watch.detach()), float(interest.detach())

    def evaluate(averaged: TwoObjectiveRanker, stop: I64) -> Evaluation:
        seconds = predict_seconds(averaged, log, stop, config.sequence_length)
        actual = log.watch_time_s[stop]
        mae = mae_s(seconds, actual)
        error = mae if stop_error is None else stop_error(averaged, seconds)
        return Evaluation(error, {"mae_s": mae, "xauc": xauc(seconds, actual)})

    torch.manual_seed(seed)
    epochs = _fit(
        ranker,
        log,
        rows,
        target_R1,
        config,
        backward,
        evaluate,
        seed,
        stop_rows,
        stop_after,
        censored,
        on_step,
        on_epoch,
        checkpoint,
    )
    return [
        RankerEpoch(e.epoch, e.losses[0], e.losses[1], e.metrics.get("mae_s"), e.metrics.get("xauc"), e.error)
        for e in epochs
    ]


def fit_objectives(
    ranker: MultiObjectiveRanker,
    log: Interactions,
    rows: I64,
    config: TrainerConfig,
    balancer: Balancer | None,
    *,
    seed: int,
    weight: float | None = None,
    label: F32 | None = None,
    stop_rows: I64 | None = None,
    stop_after: int | None = None,
    censored: tuple[F64, F64, F64] | None = None,
    on_step: Callable[[float], None] = lambda _: None,
    on_epoch: Callable[[EpochResult], None] = lambda _: None,
    checkpoint: Checkpoint | None = None,
) -> list[ObjectivesEpoch]:
    """Fit a ranker of many objectives in place; its calibration is left to `calibrate`.

    Args:
        ranker: its head's tables are fitted; its encoder's are fitted here, on `rows`.
        log: every exposure; sequences reach back over all of it.
        rows: `[R]` training rows.
        config: hyperparameters, without `interest`: the balancer decides what an objective weighs.
        balancer: of the gradients over the encoder; `None` for a sum of the losses in one pass.
        seed: decides the order of the rows, dropout and id dropout.
        weight: of that sum, see `entropy_weights`; `None` adds the losses up as they are.
        label: `[R]` LabelCraft's label of each of `rows`; needed where interest is an objective.
        stop_rows: early-stop rows. The parameters of the epoch with the highest mean AUC are kept
            (GradCraft's rule); without them those of the last epoch.
        stop_after, censored, on_step, on_epoch, checkpoint: as in `fit_ranker`.

    Returns:
        One entry an epoch.
    """
    encoder = list(ranker.encoder.parameters())
    target_RT = torch.from_numpy(targets(ranker, log, rows, label))
    rate_T = target_RT.mean(dim=0)
    weights = entropy_weights(ranker.objectives, rate_T, weight)

    def backward(x: RankerInputs, statistics: Tensor, watch_time: Tensor, target: Tensor) -> Sequence[float]:
        losses = ranker.losses(x, statistics, watch_time, target)
        if balancer is None:
            loss = torch.stack(losses.each)
            (loss @ weights.to(loss.device)).backward()  # type: ignore[no-untyped-call]
        else:
            # TorchJD, with the solvers behind CAGrad, takes more than a second to import.
            from training.balance import balanced_backward

            balanced_backward(losses.each, losses.shared, encoder, balancer)
        return torch.stack(losses.each).detach().tolist()

    def evaluate(averaged: MultiObjectiveRanker, stop: I64) -> Evaluation:
        found = predict_objectives(averaged, log, stop, config.sequence_length)
        metrics = order_metrics(averaged, found, log, stop)
        known = [value for value in metrics.values() if value is not None]
        return Evaluation(-float(np.mean(known)) if known else 0.0, metrics)

    torch.manual_seed(seed)
    ranker.start_at(rate_T)
    epochs = _fit(
        ranker,
        log,
        rows,
        target_RT,
        config,
        backward,
        evaluate,
        seed,
        stop_rows,
        stop_after,
        censored,
        on_step,
        on_epoch,
        checkpoint,
    )
    return [
        ObjectivesEpoch(
            e.epoch,
            dict(zip(ranker.objectives, e.losses, strict=True)),
            None if e.error is None else -e.error,
            e.metrics.get(WATCH_TIME),
        )
        for e in epochs
    ]


def entropy_weights(objectives: Sequence[str], rate_T: Tensor, weight: float | None) -> Tensor:
    """Return the weight of each objective's loss: 1 for watch time, for the others

        weight / H(rate),   H(p) = -p log p - (1 - p) log(1 - p)

    A cross-entropy is at most about H: each loss becomes the share of the uncertainty that is left, so that
    an outcome of one row in a thousand is heard as one of every other row is.

    Args:
        objectives: their names.
        rate_T: how often each happens, watch time left out.
        weight: `None` for 1 everywhere.
    """
    if weight is None:
        return torch.ones(len(objectives))
    p = rate_T.clamp(1e-6, 1 - 1e-6)
    each = iter((weight / -(p * p.log() + (1 - p) * (1 - p).log())).tolist())
    return torch.tensor([1.0 if name == WATCH_TIME else next(each) for name in objectives])


def _fit(
    ranker: R,
    log: Interactions,
    rows: I64,
    target_RT: Tensor,
    config: TrainerConfig,
    backward: Callable[[RankerInputs, Tensor, Tensor, Tensor], Sequence[float]],
    evaluate: Callable[[R, I64], Evaluation],
    seed: int,
    stop_rows: I64 | None,
    stop_after: int | None,
    censored: tuple[F64, F64, F64] | None,
    on_step: Callable[[float], None],
    on_epoch: Callable[[EpochResult], None],
    checkpoint: Checkpoint | None,
) -> list[EpochResult]:
    """AdamW along a cosine, on batches of rows in random order.

    Batches of like length would take half the time, but their users are alike, too.

    `backward` fills the gradients of one batch and returns its losses."""
    first = log.first_row()
    device = checked_device(config.device)
    statistics = torch.from_numpy(ranker.encoder.fit_tables(log, rows, censored))
    ranker.to(device)
    watch_time = torch.from_numpy(log.watch_time_s)
    parameters = [p for p in ranker.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    steps = max(1, -(-len(rows) // config.batch_size))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, config.epochs * steps, eta_min=config.learning_rate / 10
    )
    random = np.random.default_rng(seed)
    draws = random
    counterfactuals, counterfactual_rows = Counterfactuals(log, rows), config.counterfactual_rows

    def batches() -> list[I64]:
        nonlocal draws
        picks = np.array_split(random.permutation(len(rows)), steps)
        if processes() > 1 or device.type != "cpu":  # each draws its own, the same after a checkpoint
            own = int(random.integers(2**31)) + rank()
            torch.manual_seed(own)
            draws = np.random.default_rng(own)
        return picks

    def appeal(x: RankerInputs) -> Tensor:
        with constants_on(device):
            return ranker.appeal(x.to(device))[:, 0]

    def step(pick: I64) -> StepResult:
        pick = share_of(pick)
        batch = rows[pick]
        optimiser.zero_grad()
        x = inputs_for(log, batch, config.sequence_length, first)
        known = statistics[pick], watch_time[batch], target_RT[pick]
        with constants_on(device):
            losses = backward(x.to(device), *(each[:, None].to(device) for each in known))
        if config.counterfactual:
            some = RankerInputs(*(column[: -(-counterfactual_rows // processes())] for column in x))
            moved = counterfactuals.loss(appeal, some, draws)
            (config.counterfactual * moved).backward()  # type: ignore[no-untyped-call]
        losses = average(losses, parameters, len(pick))
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        return StepResult(losses)

    fitted: TrainerState = train(
        ranker,
        batches,
        step,
        None if stop_rows is None else lambda averaged: on_first(lambda: evaluate(averaged, stop_rows)),
        epochs=stop_after or config.epochs,
        rates=f"learning_rate = {config.learning_rate:g}",
        patience=config.patience,
        average=config.average,
        on_step=on_step,
        on_epoch=on_epoch,
        checkpoint=checkpoint,
        stateful=(optimiser, schedule, RandomState(random)),
    )
    ranker.cpu()
    return fitted.epochs


def targets(ranker: MultiObjectiveRanker, log: Interactions, rows: I64, label: F32 | None = None) -> F32:
    """Return `[R, T]` in [0, 1], columns as `ranker.likely`: what happened, and `label` for interest."""
    names = [outcome.name for outcome in outcomes_with(log.signals)]
    happened = dict(zip(names, outcomes(log.feedback[rows], log.signals).T, strict=True))
    if INTEREST in ranker.likely:
        if label is None:
            raise ValueError(
                "interest is an objective, so `label` is needed; give it, or leave interest out."
            )
        happened[INTEREST] = label
    columns = [happened[name] for name in ranker.likely]
    # Without any there are still rows.
    return np.array(columns, np.float32).reshape(len(columns), len(rows)).T.copy()


def order_metrics(
    ranker: MultiObjectiveRanker, predictions: ObjectivePredictions, log: Interactions, rows: I64
) -> dict[str, float | None]:
    """Return the AUC of each objective that is a yes or no, and the XAUC of watch time."""
    metrics: dict[str, float | None] = {}
    if predictions.seconds is not None:
        metrics[WATCH_TIME] = xauc(predictions.seconds, log.watch_time_s[rows])
    happened = outcomes(log.feedback[rows], log.signals)
    for t, outcome in enumerate(outcomes_with(log.signals)):
        if outcome.name in ranker.likely:
            score = predictions.probability[:, ranker.likely.index(outcome.name)]
            metrics[outcome.name] = auc(happened[:, t], score)
    return metrics
