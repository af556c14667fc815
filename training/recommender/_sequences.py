"""SASRec fitted on any labels: a second recommender, whose rows are a user's whole sequence.

What the notebook does not do and this does: rows are split by time, padding is in no loss and no figure,
labels stay floats, and how long to fit is decided by rows that are neither learned from nor reported.
"""

# Shape suffixes: N rows of the log, R rows picked, U users, L positions.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from models.arrays import F32, I64
from models.errors import BadInput
from models.features import FEEDBACK_COLUMNS, SEQUENCE_ID_COLUMNS
from models.vocabulary import PADDING
from training.config import Config
from training.data import Interactions
from training.encoders import SASRec, SASRecConfig, SequenceInputs
from training.train.trainer import Evaluation, StepResult, batches_by_length
from training.train.trainer import train as train_model

_COUNTED: Final = [
    FEEDBACK_COLUMNS.index(name) for name in ("like", "follow", "comment", "forward", "profile_enter")
]


_PREDICTED_USERS: Final = 512
"""Users of one prediction."""


class SequencesConfig(Config):
    """Hyperparameters of `fit_sequences`; those of SASRec4SV's report unless said otherwise."""

    sasrec: SASRecConfig = SASRecConfig()
    epochs: PositiveInt = 75
    """At most so many where there are early-stop rows."""
    patience: PositiveInt = 3
    """Epochs without a lower loss on the early-stop rows before stopping."""
    batch_users: PositiveInt = 200
    learning_rate: PositiveFloat = 1e-3
    """The last cells of the notebook run 1e-2."""
    weight_decay: NonNegativeFloat = 1e-3
    """The last cells of the notebook run 1e-7."""


class Sequences(NamedTuple):
    """The rows of U users, a user a line, oldest first, padded on the left."""

    rows: I64
    """`[U, L]` rows of the log; 0 on padding"""
    real: Tensor
    """`[U, L]` true where there is a row"""
    inputs: SequenceInputs


def sequences(log: Interactions, rows: I64, length: int) -> Sequences:
    """Return the newest `length` of each user's picked rows `[R]`, ascending."""
    user, start, count = np.unique(log.user[rows], return_index=True, return_counts=True)
    end, kept = start + count, np.minimum(count, length)
    longest = int(kept.max(initial=0))
    index = end[:, None] - longest + np.arange(longest)
    real = index >= (end - kept)[:, None]
    picked = np.where(real, rows[np.where(real, index, 0)], 0) if len(rows) else index
    video, author = (
        np.where(real, log.ids[picked, SEQUENCE_ID_COLUMNS.index(name)], PADDING)
        for name in ("video_id", "author_id")
    )
    feedback = np.where(real, log.feedback[picked][..., _COUNTED].sum(axis=-1), 0).astype(np.int64)
    time = log.timestamp_ms[picked]
    new = np.concatenate([real[:, :1], real[:, 1:] & ((time[:, 1:] != time[:, :-1]) | ~real[:, :-1])], axis=1)
    moment = np.where(real, np.cumsum(new, axis=1) - 1, -1)
    inputs = SequenceInputs(*map(torch.from_numpy, (user, video, author, feedback, moment)))
    return Sequences(picked, torch.from_numpy(real), inputs)


@dataclass(frozen=True)
class FittedSequences:
    """A fitted SASRec and the log it reads."""

    model: SASRec
    log: Interactions
    losses: list[float]
    """Mean over real positions, an epoch each."""
    stop_losses: list[float]
    """Mean over the early-stop rows, an epoch each; empty without them."""
    best_epoch: int
    """Whose weights these are, counted from 0; without early-stop rows the last one."""

    def predict(self, rows: I64) -> F32:
        """Return `[R]` probabilities or ratios of rows, ascending, each from its user's rows up to it."""
        out = np.zeros(len(self.log), np.float32)
        wanted = np.zeros(len(self.log), bool)
        wanted[rows] = True
        self.model.eval()
        length = self.model.config.length
        # The last `length` rows answer at once; of longer histories the earlier ones follow block by block.
        left = np.flatnonzero(np.isin(self.log.user, self.log.user[rows])).astype(np.int64)
        with torch.no_grad():
            while wanted[left].any():
                batch = sequences(self.log, left, length)
                longest_U = batch.real.sum(1).numpy()
                by_length = np.argsort(longest_U, kind="stable")
                for start in range(0, len(by_length), _PREDICTED_USERS):
                    users = by_length[start : start + _PREDICTED_USERS]
                    picked, longest = torch.from_numpy(users), int(longest_U[users].max())
                    user, *columns = (column[picked] for column in batch.inputs)
                    out_UL = self.model(SequenceInputs(user, *(c[:, -longest:] for c in columns)))
                    if self.model.config.head == "binary":
                        out_UL = torch.sigmoid(out_UL)
                    real_UL = batch.real[picked, -longest:].numpy()
                    out[batch.rows[users, -longest:][real_UL]] = out_UL.numpy()[real_UL]
                left = np.setdiff1d(left, batch.rows[batch.real.numpy()])
        return out[rows]


def fit_sequences(
    log: Interactions,
    train: I64,
    label_N: F32,
    config: SequencesConfig | None = None,
    *,
    stop: I64 | None = None,
    seed: int = 0,
    on_progress: Callable[[float], None] = lambda _: None,
) -> FittedSequences:
    """Fit SASRec4SV's model on any labels.

    Args:
        log: N exposures.
        train: rows it learns from, ascending.
        label_N: `[N]` a label of every row of the log, of which those of `train` and `stop` are read: in
            [0, 1] for the binary head (cross entropy), ≥ 0 for the ratio head (Huber).
        config: hyperparameters.
        stop: later rows, ascending; the weights of the epoch with the lowest loss on them are kept. Without
            them those of the last epoch.
        seed: decides the weights, dropout and the order of the users.
        on_progress: called with the share of the work that is done.

    Raises:
        BadInput: no training rows.
    """
    config = config or SequencesConfig()
    if not len(train):
        raise BadInput("there are no rows to fit a recommender on; check the dates of the split.")
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = SASRec(
        users=len(log.user_ids),
        videos=int(log.ids[:, 0].max()) + 1,
        authors=int(log.ids[:, 1].max()) + 1,
        config=config.sasrec,
    )
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    data = sequences(log, train, config.sasrec.length)
    label_UL = torch.from_numpy(label_N.astype(np.float32)[data.rows])
    length_U = data.real.sum(1).numpy()

    def step(users: I64) -> StepResult:
        picked, longest = torch.from_numpy(users), int(length_U[users].max())
        user, *columns = (column[picked] for column in data.inputs)
        out_UL = model(SequenceInputs(user, *(column[:, -longest:] for column in columns)))
        real_UL = data.real[picked, -longest:]
        loss = sequence_loss(out_UL, label_UL[picked, -longest:], real_UL, config.sasrec.head)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return StepResult((float(loss.detach()),), weight=float(real_UL.sum()))

    def evaluate(model: SASRec, rows: I64) -> Evaluation:
        return Evaluation(_stop_loss(FittedSequences(model, log, [], [], 0), rows, label_N))

    trained = train_model(
        model,
        lambda: batches_by_length(length_U, config.batch_users, random),
        step,
        None if stop is None else lambda model: evaluate(model, stop),
        epochs=config.epochs,
        rates=f"learning_rate = {config.learning_rate:g}",
        patience=config.patience,
        on_step=on_progress,
    )
    losses = [epoch.losses[0] for epoch in trained.epochs]
    stop_losses = [epoch.error for epoch in trained.epochs if epoch.error is not None]
    return FittedSequences(model, log, losses, stop_losses, trained.best_epoch)


def _stop_loss(fitted: FittedSequences, rows: I64, label_N: F32) -> float:
    found, label = torch.from_numpy(fitted.predict(rows)), torch.from_numpy(label_N[rows].astype(np.float32))
    if fitted.model.config.head == "ratio":
        return float(nn.functional.huber_loss(found, label))
    return float(nn.functional.binary_cross_entropy(found, label))


def sequence_loss(out_UL: Tensor, label_UL: Tensor, real_UL: Tensor, head: str) -> Tensor:
    """Return the mean over the real positions, a scalar."""
    out_R, label_R = out_UL[real_UL], label_UL[real_UL]
    if head == "ratio":
        return nn.functional.huber_loss(out_R, label_R)
    return nn.functional.binary_cross_entropy_with_logits(out_R, label_R)
