"""The one loop that fits a ranker."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Annotated, NamedTuple, Protocol, TypeVar, cast

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from models.arrays import F32, F64, I64
from models.metrics import mae_s, xauc
from training.config import Config
from training.data import Interactions
from training.encoders import batches_for, inputs_for
from training.rankers import Ranker

_SORTED_TOGETHER = 24
"""Batches whose rows are sorted by the length of their history."""


class LoopConfig(Config):
    """Knobs of the fit. No source gives them: chosen on the early-stop split."""

    epochs: PositiveInt = 6
    """At most so many passes over the training rows."""
    patience: PositiveInt = 2
    """Epochs without a lower early-stop MAE before stopping."""
    batch_size: PositiveInt = 512
    learning_rate: PositiveFloat = 1e-3
    """AdamW's, falling to a tenth of it along a cosine over `epochs`."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-3
    average: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """What is judged and kept is a running mean of the parameters, which each step moves by 1 - average of
    the way, by more while there are few; 0 keeps the last step's. Steps are noisy on small logs."""
    interest: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the interest loss beside the watch-time loss."""
    sequence_length: PositiveInt = 100
    """Most steps of history, the newest."""


class Epoch(NamedTuple):
    """What one pass left behind."""

    epoch: int
    watch_loss: float
    interest_loss: float
    stop_mae_s: float | None
    stop_xauc: float | None


def epochs_kept(epochs: Sequence[Epoch]) -> int:
    """How many epochs early stopping kept: up to the one with the lowest error, the first of equals."""
    return 1 + min(range(len(epochs)), key=lambda i: epochs[i].stop_mae_s or 0.0)


def fit_ranker(
    ranker: Ranker,
    log: Interactions,
    rows: I64,
    label: F32,
    config: LoopConfig,
    *,
    seed: int,
    stop_rows: I64 | None = None,
    stop_after: int | None = None,
    censored: tuple[F64, F64, F64] | None = None,
    on_step: Callable[[float], None] = lambda _: None,
) -> list[Epoch]:
    """Fit `ranker` in place.

    Args:
        ranker: its head's tables are fitted; its encoder's are fitted here, on `rows`.
        log: every exposure; histories reach back over all of it.
        rows: `[R]` what is learned from.
        label: `[R]` LabelCraft's label of each of `rows`.
        config: see there.
        seed: decides the order of the rows, dropout and id dropout.
        stop_rows: early-stop rows. With them the parameters of the epoch with the lowest MAE are restored;
            without them all epochs are made.
        stop_after: make this many of `config.epochs`, on the same schedule: how a fit on all days repeats
            the length that early stopping found.
        censored: what is known of videos before the log, see `Dataset.censored`.
        on_step: called with the share of the work that is done.

    Returns:
        One entry an epoch.
    """
    torch.manual_seed(seed)
    first = log.first_row()
    length = np.minimum(np.arange(len(log)) - first, config.sequence_length)
    statistics = torch.from_numpy(ranker.encoder.fit_tables(log, rows, censored))
    watch_time, target = torch.from_numpy(log.watch_time_s), torch.from_numpy(label)

    def step(pick: I64) -> tuple[float, float]:
        batch = rows[pick]
        watch, interest = ranker.loss(
            inputs_for(log, batch, config.sequence_length, first),
            statistics[pick][:, None],
            watch_time[batch][:, None],
            target[pick][:, None],
        )
        (watch + config.interest * interest).backward()  # type: ignore[no-untyped-call]
        return float(watch.detach()), float(interest.detach())

    def judge(averaged: Ranker, among: I64) -> tuple[float, float | None]:
        seconds = predict_seconds(averaged, log, among, config.sequence_length, first)
        actual = log.watch_time_s[among]
        mae = mae_s(seconds, actual)
        assert mae is not None
        return mae, xauc(seconds, actual)

    passes = descend(
        ranker,
        length[rows],
        config,
        step,
        None if stop_rows is None else lambda averaged: judge(averaged, stop_rows),
        seed=seed,
        stop_after=stop_after,
        on_step=on_step,
    )
    return [Epoch(i, *one.losses, *(one.judged or (None, None))) for i, one in enumerate(passes)]


M = TypeVar("M", bound=nn.Module)


class Pass(NamedTuple):
    """What `descend` tells of one pass over the rows."""

    losses: tuple[float, ...]
    """Means over the steps, as `step` returned them."""
    judged: tuple[float, float | None] | None
    """What `judge` said of the parameters after it."""


def descend(
    model: M,
    length_R: I64,
    config: LoopConfig,
    step: Callable[[I64], Sequence[float]],
    judge: Callable[[M], tuple[float, float | None]] | None,
    *,
    seed: int,
    stop_after: int | None = None,
    on_step: Callable[[float], None] = lambda _: None,
) -> list[Pass]:
    """Descend whatever losses `step` fills the gradients of; `fit_ranker` and `fit_objectives` are this.

    Args:
        model: fitted in place, and left in eval mode.
        length_R: steps of history of each of R rows: batches hold rows of like length.
        config: epochs, batches, rate, mean of the parameters.
        step: given positions among the R rows, computes losses, fills `.grad` and returns the losses' values.
        judge: the error of the averaged parameters, less is better, and a second figure that decides nothing.
            With it the parameters of the epoch with the lowest error are restored; without it all epochs
            are made.
        seed: decides the order of the rows. What happens inside `step` is seeded by the caller.
        stop_after: see `fit_ranker`.
        on_step: called with the share of the work that is done.
    """
    random = np.random.default_rng(seed)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    steps = max(1, -(-len(length_R) // config.batch_size))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimiser, config.epochs * steps, eta_min=config.learning_rate / 10
    )
    mean = AveragedModel(model, avg_fn=_running_mean(config.average))
    averaged = cast(M, mean.module)
    passes: list[Pass] = []
    best, best_epoch, best_state = np.inf, 0, copy.deepcopy(model.state_dict())
    planned = stop_after or config.epochs
    for epoch in range(planned):
        model.train()
        losses: list[Sequence[float]] = []
        for at, pick in enumerate(_batches(length_R, steps, random)):
            optimiser.zero_grad()
            losses.append(step(pick))
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()
            schedule.step()
            mean.update_parameters(model)
            on_step((epoch * steps + at + 1) / (planned * steps))
        judged = None if judge is None else judge(averaged)
        passes.append(Pass(tuple(np.mean(losses, axis=0).tolist()), judged))
        if judged is None:
            continue
        if judged[0] < best:
            best, best_epoch, best_state = judged[0], epoch, copy.deepcopy(averaged.state_dict())
        elif epoch - best_epoch >= config.patience:
            break
    model.load_state_dict(averaged.state_dict() if judge is None else best_state)
    model.eval()
    return passes


def _batches(length_R: I64, steps: int, random: np.random.Generator) -> list[I64]:
    """`[R]` rows in so many batches of one size, in random order, each of rows with histories of like length.

    A batch is as long as its longest history. Rows are shuffled, sorted by length a few batches at a time,
    and the batches shuffled: half the work on a log of mostly short histories, and no two epochs have the
    same batches.
    """
    groups = max(1, steps // _SORTED_TOGETHER)
    sorted_R = np.concatenate(
        [
            part[np.argsort(length_R[part], kind="stable")]
            for part in np.array_split(random.permutation(len(length_R)), groups)
        ]
    )
    batches = np.array_split(sorted_R, steps)
    return [batches[i] for i in random.permutation(steps)]


def _running_mean(average: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """mean ← mean + (1 - a) (now - mean), a = min(average, (1 + n) / (10 + n)) after n steps: a short fit
    does not keep its first steps."""

    def update(mean: Tensor, now: Tensor, steps: Tensor | int) -> Tensor:
        n = float(steps)
        return mean.lerp(now, 1 - min(average, (1 + n) / (10 + n)))

    return update


def predict_seconds(
    ranker: Ranker,
    log: Interactions,
    rows: I64,
    length: int,
    first: I64 | None = None,
    *,
    together: bool = False,
) -> F32:
    """`[R]` predicted watch time of rows of a log; for any head. Arguments as of `batches_for`."""
    ranker.eval()
    asked = batches_for(log, rows, length, first, together=together)
    with torch.no_grad():
        seconds = [ranker.seconds(x)[:, 0].numpy() for x in asked]
    return np.concatenate([np.zeros(0, np.float32), *seconds])


class Predictions(NamedTuple):
    """The outputs of a ranker that the metrics need."""

    watch_time_s: F32
    """`[R]` seconds"""
    objectives: dict[str, F32]
    """`[R]` each, in [0, 1]: what the score is fused from."""

    def take(self, rows: I64) -> Predictions:
        """Those of these rows."""
        return Predictions(
            self.watch_time_s[rows], {name: column[rows] for name, column in self.objectives.items()}
        )


class ServedRanker(Protocol):
    """What can be exported: a module that answers a request with named tensors."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what a call returns, in its order."""
        ...

    @property
    def objectives(self) -> tuple[str, ...]:
        """Those of them that the score is fused from."""
        ...

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Arguments as in `RankerInputs`; `[B, N, ...]` tensors."""
        ...

    def eval(self) -> object:
        """As of `nn.Module`."""
        ...


def predict(
    ranker: ServedRanker, log: Interactions, rows: I64, length: int, *, together: bool = False
) -> Predictions:
    """Run the served path of the torch modules over rows of a log. Arguments as of `batches_for`."""
    ranker.eval()
    names = ("watch_time_s", *ranker.objectives)
    parts: list[list[F32]] = [[np.zeros(0, np.float32)] for _ in names]
    with torch.no_grad():
        for x in batches_for(log, rows, length, together=together):
            of = dict(zip(ranker.outputs, ranker(*x), strict=True))
            for part, name in zip(parts, names, strict=True):
                part.append(of[name][:, 0].numpy())
    return predictions(dict(zip(names, map(np.concatenate, parts), strict=True)))


def predictions(columns: dict[str, F32]) -> Predictions:
    """`[R]` columns by name, `watch_time_s` and the objectives."""
    return Predictions(
        columns["watch_time_s"], {name: x for name, x in columns.items() if name != "watch_time_s"}
    )
