"""The ranker's inputs as torch tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from models.arrays import F32, I64
from models.features import CANDIDATE_ID_COLUMNS
from models.vocabulary import PADDING
from training.data import Interactions


class RankerInputs(NamedTuple):
    """Named and ordered as the inputs of `ranker.onnx`, see `models.features`.

    B users, L sequence steps and H history entries (oldest first, padded with row 0), N candidates a user.
    """

    sequence_ids: Tensor
    """`[B, L, 4]` int64"""
    sequence_feedback: Tensor
    """`[B, L, 8 + S]` float32"""
    sequence_age_s: Tensor
    """`[B, L]` float32"""
    candidate_ids: Tensor
    """`[B, N, 3]` int64"""
    candidate_duration_s: Tensor
    """`[B, N]` float32, NaN where unknown"""
    context_ids: Tensor
    """`[B, 1]` int64"""
    profile: Tensor
    """`[B, P]` float32, NaN where unknown"""
    profile_ids: Tensor
    """`[B, Q]` int64"""
    history_ids: Tensor
    """`[B, H]` int64"""
    history_feedback: Tensor
    """`[B, H, 2]` float32"""
    candidate_numbers: Tensor
    """`[B, N, F]` float32, NaN where unknown; own features of videos, F may be 0"""
    candidate_categories: Tensor
    """`[B, N, K]` int64, K may be 0"""

    def to(self, device: torch.device) -> RankerInputs:
        """Return the same inputs on a device."""
        return RankerInputs(*(column.to(device) for column in self))


HistoryAt = Literal["row", "request"]
"""Which history each row of a user is predicted with.

`row`: all that came before the row: what predicted seconds and probabilities are evaluated with.

`request`: a user's rows are candidates of one request, made as the first of them came: what the order within
a user is evaluated with, since it is what `/rerank` orders. With `row` that order is evaluated wrongly: after
a like the statistics of its user say "likes", so the rows behind a like stand above it, and the fewer rows a
user has, the more so. On KuaiRand-Pure, with two rows a user and day, GAUC of likes is .42 by row and .60 by
request (early-stop day, `kuairand_objectives`)."""


def inputs_for(
    log: Interactions, rows: I64, length: int, first: I64 | None = None, *, history_rows: I64 | None = None
) -> RankerInputs:
    """Return each of `rows` as a request of its own: one candidate, and the history the user had by then.

    Args:
        log: N exposures.
        rows: `[B]` indices into it.
        length: most steps of the sequence; what is older is history.
        first: `log.first_row()`, for callers with many batches.
        history_rows: `[B]` rows whose history is taken instead of their own.

    Returns:
        Inputs with N = 1 candidate each.
    """
    history = log.history(rows if history_rows is None else history_rows, length, first)
    user = log.user[rows]
    numbers, categories = log.features_of(rows)
    return RankerInputs(
        sequence_ids=torch.from_numpy(history.sequence_ids),
        sequence_feedback=torch.from_numpy(history.sequence_feedback),
        sequence_age_s=torch.from_numpy(history.sequence_age_s),
        candidate_ids=torch.from_numpy(log.ids[rows, None, : len(CANDIDATE_ID_COLUMNS)]),
        candidate_duration_s=torch.from_numpy(log.duration_s[rows, None].copy()),
        context_ids=torch.from_numpy(log.tab[rows, None]),
        profile=torch.from_numpy(log.profile[user]),
        profile_ids=torch.from_numpy(log.profile_ids[user]),
        history_ids=torch.from_numpy(history.history_ids),
        history_feedback=torch.from_numpy(history.history_feedback),
        candidate_numbers=torch.from_numpy(numbers[:, None]),
        candidate_categories=torch.from_numpy(categories[:, None]),
    )


def batches_for(
    log: Interactions, rows: I64, length: int, *, batch: int = 2048, history_at: HistoryAt = "row"
) -> Iterator[RankerInputs]:
    """Yield rows as `inputs_for` returns them, a batch at a time, in their order.

    Args:
        log: N exposures.
        rows: `[R]` indices into it.
        length: most steps of the sequence; what is older is history.
        batch: rows of a batch.
        history_at: the row's own history, or that of the user's request.
    """
    first = log.first_row()
    history_rows = log.first_among(rows) if history_at == "request" else rows
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        yield inputs_for(log, rows[part], length, first, history_rows=history_rows[part])


def with_step(x: RankerInputs, ids_B4: I64, feedback_B8: F32, age_B: Tensor) -> RankerInputs:
    """Return the requests with one more step, the newest, in the tab of the request.

    Args:
        x: requests of B users.
        ids_B4: the exposed video, columns as `SEQUENCE_ID_COLUMNS`; its tab is not read.
        feedback_B8: what was done, columns as `FEEDBACK_COLUMNS`; of own signals nothing was.
        age_B: seconds from the exposure to the request; not more than the newest step's counts.
    """
    ids = torch.from_numpy(ids_B4.copy())
    ids[:, -1] = x.context_ids[:, 0]
    known_BL = x.sequence_ids[..., 0] != PADDING
    older_BL = torch.where(known_BL, x.sequence_age_s, torch.inf)
    done_B1C = F.pad(torch.from_numpy(feedback_B8), (0, x.sequence_feedback.shape[2] - feedback_B8.shape[1]))
    age_BL = torch.cat([older_BL, age_B.to(older_BL.dtype)[:, None]], dim=1)
    return x._replace(
        sequence_ids=torch.cat([x.sequence_ids, ids[:, None]], dim=1),
        sequence_feedback=torch.cat([x.sequence_feedback, done_B1C[:, None]], dim=1),
        sequence_age_s=torch.cat([x.sequence_age_s, age_BL.amin(dim=1, keepdim=True)], dim=1),
    )
