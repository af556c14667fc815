"""The ranker's inputs as torch tensors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from models.arrays import I64
from training.data import Interactions


class RankerInputs(NamedTuple):
    """Named and ordered as the inputs of `ranker.onnx`, see `models.features`.

    B users, L sequence steps (oldest first, padded with row 0), N candidates a user.
    """

    sequence_ids: Tensor
    """`[B, L, 4]` int64"""
    sequence_feedback: Tensor
    """`[B, L, 8]` float32"""
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


def inputs_for(
    log: Interactions, rows: I64, length: int, first: I64 | None = None, *, asked: I64 | None = None
) -> RankerInputs:
    """Each of `rows` as a request of its own: one candidate, and the history the user had by then.

    Args:
        log: N exposures.
        rows: `[B]` indices into it.
        length: most steps of history.
        first: `log.first_row()`, for callers that ask many times.
        asked: `[B]` the rows at whose moment each is asked for; by default its own.

    Returns:
        Inputs with N = 1 candidate each.
    """
    history = log.history(rows if asked is None else asked, length, first)
    user = log.user[rows]
    return RankerInputs(
        sequence_ids=torch.from_numpy(history.sequence_ids),
        sequence_feedback=torch.from_numpy(history.sequence_feedback),
        sequence_age_s=torch.from_numpy(history.sequence_age_s),
        candidate_ids=torch.from_numpy(log.ids[rows, None, :3]),
        candidate_duration_s=torch.from_numpy(log.duration_s[rows, None].copy()),
        context_ids=torch.from_numpy(log.ids[rows, 3:4].copy()),
        profile=torch.from_numpy(log.profile[user]),
        profile_ids=torch.from_numpy(log.profile_ids[user]),
    )


def batches_for(
    log: Interactions,
    rows: I64,
    length: int,
    first: I64 | None = None,
    *,
    batch: int = 2048,
    together: bool = False,
) -> Iterator[RankerInputs]:
    """Many rows as `inputs_for` gives them, a batch at a time, in their order.

    Args:
        log: N exposures.
        rows: `[R]` indices into it.
        length: most steps of history.
        first: `log.first_row()`, for callers that ask many times.
        batch: rows at once.
        together: what each row may know of its user. By default all that came before the row: what to judge
            predicted seconds and probabilities by. Otherwise a user's rows are candidates of one request,
            made as the first of them came: what to judge the order within a user by, since it is what
            `/rerank` orders. Row by row that order is judged wrongly: after a like the habits of its user
            say "likes", so the rows behind a like stand above it, and the fewer rows a user has, the more
            so. On KuaiRand-Pure, with two rows a user and day, GAUC of likes is .42 row by row and .60
            in one request (early-stop day, `kuairand_objectives`).
    """
    first = log.first_row() if first is None else first
    asked = log.first_among(rows) if together else rows
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        yield inputs_for(log, rows[part], length, first, asked=asked[part])
