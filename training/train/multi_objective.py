"""Fit a ranker of many objectives: steps through `training.balance`, judged by the mean over objectives."""

# Shape suffixes: R rows, T objectives.

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from models.arrays import F32, F64, I64
from models.metrics import auc, xauc
from training.data import Interactions
from training.encoders import batches_for, inputs_for
from training.rankers import INTEREST, OUTCOMES, ObjectivesRanker, outcomes
from training.train.trainer import LoopConfig, descend

if TYPE_CHECKING:
    from training.balance import Balancer


class ObjectivesEpoch(NamedTuple):
    """What one pass left behind."""

    epoch: int
    losses: dict[str, float]
    """Of each objective, the mean over the steps."""
    stop_auc: float | None
    """The mean over the objectives of AUC, and XAUC of watch time, on the early-stop rows."""
    stop_xauc: float | None
    """XAUC of watch time alone."""


class Found(NamedTuple):
    """`[R]`, `[R, T]`: answers on rows of a log."""

    seconds: F32 | None
    probability: F32
    """Columns as `ObjectivesRanker.likely`."""


def objective_epochs_kept(epochs: list[ObjectivesEpoch]) -> int:
    """How many epochs early stopping kept: up to the one with the highest mean, the first of equals."""
    return 1 + max(range(len(epochs)), key=lambda i: epochs[i].stop_auc or 0.0)


def fit_objectives(
    ranker: ObjectivesRanker,
    log: Interactions,
    rows: I64,
    config: LoopConfig,
    balancer: Balancer | None,
    *,
    seed: int,
    label: F32 | None = None,
    stop_rows: I64 | None = None,
    stop_after: int | None = None,
    censored: tuple[F64, F64, F64] | None = None,
    on_step: Callable[[float], None] = lambda _: None,
) -> list[ObjectivesEpoch]:
    """Fit `ranker` in place; its lines of calibration are left to `calibrate`.

    Args:
        ranker: its head's tables are fitted; its encoder's are fitted here, on `rows`.
        log: every exposure; histories reach back over all of it.
        rows: `[R]` what is learned from.
        config: see there; `interest` is not read: the balancer decides what an objective weighs.
        balancer: of the gradients over the encoder; `None` for their plain sum in one pass.
        seed: decides the order of the rows, dropout and id dropout.
        label: `[R]` LabelCraft's label of each of `rows`; needed where interest is an objective.
        stop_rows: early-stop rows. With them the parameters of the epoch with the highest mean AUC are kept
            (GradCraft's rule); without them all epochs are made.
        stop_after, censored, on_step: as in `fit_ranker`.

    Returns:
        One entry an epoch.
    """
    # TorchJD, with the solvers behind CAGrad, takes more than a second to import: only fits wait for it.
    from training.balance import balanced_backward

    torch.manual_seed(seed)
    first = log.first_row()
    length = np.minimum(np.arange(len(log)) - first, config.sequence_length)
    statistics = torch.from_numpy(ranker.encoder.fit_tables(log, rows, censored))
    watch_time = torch.from_numpy(log.watch_time_s)
    target = torch.from_numpy(targets(ranker, log, rows, label))
    ranker.start_at(target.mean(dim=0))
    encoder = list(ranker.encoder.parameters())

    def step(pick: I64) -> list[float]:
        batch = rows[pick]
        losses = ranker.losses(
            inputs_for(log, batch, config.sequence_length, first),
            statistics[pick][:, None],
            watch_time[batch][:, None],
            target[pick][:, None],
        )
        if balancer is None:
            torch.stack(losses.each).sum().backward()  # type: ignore[no-untyped-call]
        else:
            balanced_backward(losses.each, losses.shared, encoder, balancer)
        return torch.stack(losses.each).detach().tolist()

    def judge(averaged: ObjectivesRanker, among: I64) -> tuple[float, float | None]:
        found = predict_objectives(averaged, log, among, config.sequence_length, first)
        figures = order_figures(averaged, found, log, among)
        known = [value for value in figures.values() if value is not None]
        return -float(np.mean(known)) if known else 0.0, figures.get("watch_time")

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
    return [
        ObjectivesEpoch(
            i,
            dict(zip(ranker.objectives, one.losses, strict=True)),
            None if one.judged is None else -one.judged[0],
            None if one.judged is None else one.judged[1],
        )
        for i, one in enumerate(passes)
    ]


def targets(ranker: ObjectivesRanker, log: Interactions, rows: I64, label: F32 | None = None) -> F32:
    """`[R, T]` in [0, 1], columns as `ranker.likely`: what happened, and `label` for interest."""
    happened = dict(zip((o.name for o in OUTCOMES), outcomes(log.feedback[rows]).T, strict=True))
    if INTEREST in ranker.likely:
        if label is None:
            raise ValueError(
                "interest is an objective, so `label` is needed; give it, or leave interest out."
            )
        happened[INTEREST] = label
    columns = [happened[name] for name in ranker.likely]
    # Without any there are still rows.
    return np.array(columns, np.float32).reshape(len(columns), len(rows)).T.copy()


def order_figures(
    ranker: ObjectivesRanker, found: Found, log: Interactions, rows: I64
) -> dict[str, float | None]:
    """AUC of each objective that is a yes or no, XAUC of watch time."""
    figures: dict[str, float | None] = {}
    if found.seconds is not None:
        figures["watch_time"] = xauc(found.seconds, log.watch_time_s[rows])
    happened = outcomes(log.feedback[rows])
    for t, outcome in enumerate(OUTCOMES):
        if outcome.name in ranker.likely:
            score = found.probability[:, ranker.likely.index(outcome.name)]
            figures[outcome.name] = auc(happened[:, t], score)
    return figures


def predict_objectives(
    ranker: ObjectivesRanker,
    log: Interactions,
    rows: I64,
    length: int,
    first: I64 | None = None,
    *,
    together: bool = False,
) -> Found:
    """Every objective on rows of a log; for any head. Arguments as of `batches_for`."""
    ranker.eval()
    seconds, probability = [], [np.zeros((0, len(ranker.likely)), np.float32)]
    with torch.no_grad():
        for x in batches_for(log, rows, length, first, together=together):
            out = ranker.answers(x)
            probability.append(out.probability[:, 0].numpy())
            if out.seconds is not None:
                seconds.append(out.seconds[:, 0].numpy())
    return Found(np.concatenate(seconds) if seconds else None, np.concatenate(probability))


def calibrate(
    ranker: ObjectivesRanker, log: Interactions, rows: I64, length: int, label: F32 | None = None
) -> None:
    """Fit the lines of calibration on rows that the ranker was not fitted on.

    Args:
        ranker: fitted. Lines that it had are replaced.
        log: every exposure.
        rows: `[R]` held out.
        length: most steps of history.
        label: as in `fit_objectives`.
    """
    ranker.platt.slope.fill_(1.0)
    ranker.platt.shift.zero_()
    probability = predict_objectives(ranker, log, rows, length).probability.astype(np.float64)
    probability = np.clip(probability, 1e-9, 1 - 1e-7)
    logit = np.log(probability) - np.log1p(-probability)
    ranker.platt.fit(logit.astype(np.float32), targets(ranker, log, rows, label))
