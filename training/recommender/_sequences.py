"""SASRec fitted on any labels: a second recommender, whose rows are a user's whole sequence.

What the notebook does not do and this does: rows are split by time, padding is in no loss and no figure,
labels stay floats, and how long to fit is decided by rows that are neither learned from nor reported.
"""

# Shape suffixes: N rows of the log, R rows picked, U users, L positions.

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
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

_COUNTED: Final = [
    FEEDBACK_COLUMNS.index(name) for name in ("like", "follow", "comment", "forward", "profile_enter")
]


_SORTED_TOGETHER: Final = 24
"""Batches whose users are sorted by the length of their sequence."""
_AT_ONCE: Final = 512
"""Users of one prediction."""


class SequencesConfig(Config):
    """Knobs of `fit_sequences`; those of SASRec4SV's report unless said otherwise."""

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
    """The newest `length` of each user's picked rows `[R]`, ascending."""
    user, start, count = np.unique(log.user[rows], return_index=True, return_counts=True)
    end, kept = start + count, np.minimum(count, length)
    longest = int(kept.max(initial=0))
    place = end[:, None] - longest + np.arange(longest)
    real = place >= (end - kept)[:, None]
    picked = np.where(real, rows[np.where(real, place, 0)], 0) if len(rows) else place
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
        """`[R]` probabilities or ratios of rows, ascending, each from its user's rows up to it."""
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
                for start in range(0, len(by_length), _AT_ONCE):
                    users = by_length[start : start + _AT_ONCE]
                    picked, longest = torch.from_numpy(users), int(longest_U[users].max())
                    user, *columns = (column[picked] for column in batch.inputs)
                    found_UL = self.model(SequenceInputs(user, *(c[:, -longest:] for c in columns)))
                    if self.model.config.head == "binary":
                        found_UL = torch.sigmoid(found_UL)
                    real_UL = batch.real[picked, -longest:].numpy()
                    out[batch.rows[users, -longest:][real_UL]] = found_UL.numpy()[real_UL]
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
        config: knobs.
        stop: later rows, ascending; the weights of the epoch with the lowest loss on them are kept. Without
            them all epochs are made.
        seed: decides the weights, dropout and the order of the users.
        on_progress: told the share of the epochs that is done.

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
    fitted = FittedSequences(model, log, [], [], 0)
    best_state = copy.deepcopy(model.state_dict())
    for epoch in range(config.epochs):
        model.train()
        total = 0.0
        for users in _batches(length_U, config.batch_users, random):
            picked, longest = torch.from_numpy(users), int(length_U[users].max())
            user, *columns = (column[picked] for column in data.inputs)
            out_UL = model(SequenceInputs(user, *(column[:, -longest:] for column in columns)))
            real_UL = data.real[picked, -longest:]
            loss = sequence_loss(out_UL, label_UL[picked, -longest:], real_UL, config.sasrec.head)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += float(loss.detach()) * float(real_UL.sum())
        fitted.losses.append(total / float(data.real.sum()))
        on_progress((epoch + 1) / config.epochs)
        if stop is None:
            continue
        fitted.stop_losses.append(_stop_loss(fitted, stop, label_N))
        best = int(np.argmin(fitted.stop_losses))
        if best == epoch:
            best_state = copy.deepcopy(model.state_dict())
        elif epoch - best >= config.patience:
            break
    if stop is not None:
        model.load_state_dict(best_state)
    model.eval()
    on_progress(1.0)
    kept = int(np.argmin(fitted.stop_losses)) if fitted.stop_losses else len(fitted.losses) - 1
    return replace(fitted, best_epoch=kept)


def _batches(length_U: I64, size: int, random: np.random.Generator) -> list[I64]:
    """Users in batches of like length, in random order: a batch is as long as its longest sequence, and most
    users have a short one. Users are shuffled and sorted some batches at a time, so no two epochs have the
    same batches."""
    count = len(length_U)
    sorted_U = np.concatenate(
        [
            part[np.argsort(length_U[part], kind="stable")]
            for part in np.array_split(random.permutation(count), max(1, count // (size * _SORTED_TOGETHER)))
        ]
    )
    batches = [sorted_U[start : start + size] for start in range(0, count, size)]
    return [batches[i] for i in random.permutation(len(batches))]


def _stop_loss(fitted: FittedSequences, rows: I64, label_N: F32) -> float:
    found, label = torch.from_numpy(fitted.predict(rows)), torch.from_numpy(label_N[rows].astype(np.float32))
    if fitted.model.config.head == "ratio":
        return float(nn.functional.huber_loss(found, label))
    return float(nn.functional.binary_cross_entropy(found, label))


def sequence_loss(out_UL: Tensor, label_UL: Tensor, real_UL: Tensor, head: str) -> Tensor:
    """Mean over the real positions, a scalar; padding has no part in it."""
    out_R, label_R = out_UL[real_UL], label_UL[real_UL]
    if head == "ratio":
        return nn.functional.huber_loss(out_R, label_R)
    return nn.functional.binary_cross_entropy_with_logits(out_R, label_R)
