"""The ranker's inputs as torch tensors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from training.data import Interactions
from training.data._interactions import I64


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
        asked: `[B]` the rows at whose moment each is asked for; by default its own. With `log.first_among`
            a user's rows are what `/rerank` gets: candidates that all meet one history.

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
