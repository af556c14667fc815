"""Running statistics of a user, computed inside the graph so that they are the same offline and online."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from models.vocabulary import UNKNOWN
from training.encoders._inputs import RankerInputs

# Shape suffixes: B users, L steps, N candidates (or windows), F columns of what was done.

RECENT: Final = 3
"""How many of the newest steps are also read one by one."""

_NO_ID: Final = -1
"""No index of any vocabulary."""


def user_columns(outcome_columns: int) -> int:
    """Return how many columns `user_stats` has, of so many of what was done at a step."""
    return 4 * (outcome_columns + 1) + RECENT * (outcome_columns + 3)


def match_columns(outcome_columns: int) -> int:
    """Return how many columns `candidate_match_features` has."""
    return 2 * (outcome_columns + 1)


def step_columns(
    feedback_BLF: Tensor,
    log_duration_BL1: Tensor,
    log_age_BL1: Tensor,
    valid_BL: Tensor,
    hated_BL: Tensor,
) -> Tensor:
    """Return the steps as `user_stats` and `candidate_match_features` read them, `[B, L, F + 4]`.

    Columns of what was done (`StepFeedback.columns`), log duration, recency (1 - log age) and whether there
    is a step that is read, 0 elsewhere; and whether there is one that was hated, of which nothing else is
    read.
    """
    valid_BL1 = valid_BL[..., None]
    known_BLF = torch.cat([feedback_BLF, log_duration_BL1, 1.0 - log_age_BL1], dim=-1) * valid_BL1
    return torch.cat([known_BLF, valid_BL1, hated_BL[..., None]], dim=-1)


def user_stats(x: RankerInputs, steps_BLF: Tensor) -> Tensor:
    """Return what the user usually does, `[B, user_columns(F)]`.

    Means over all steps, over those of the same tab, of its last half hour and of its last day, each with its
    log count; then the newest steps one by one.

    Args:
        x: the inputs, of which tabs and ages are read.
        steps_BLF: from `step_columns`; padding counts nowhere, since its columns are 0.
    """
    any_tab_41 = torch.tensor([[True], [False], [False], [False]])
    within_s_41 = torch.tensor([[torch.inf], [torch.inf], [1800.0], [86_400.0]])
    same_tab_B1L = (x.sequence_ids[..., 3] == x.context_ids)[:, None]
    counted_B4L = (same_tab_B1L | any_tab_41) & (x.sequence_age_s[:, None] < within_s_41)
    means_B4F = _means(counted_B4L.to(steps_BLF.dtype) @ steps_BLF)
    # Steps that are not read lie between others: the newest ones are found by counting from the end.
    valid_BL = steps_BLF[..., -2]
    from_end_BL = valid_BL @ torch.ones(valid_BL.shape[1], valid_BL.shape[1]).tril()
    nth_31 = torch.arange(RECENT, 0, -1)[:, None]
    newest_B3L = (from_end_BL[:, None] == nth_31).to(valid_BL.dtype) * valid_BL[:, None]
    return torch.cat([means_B4F.flatten(1), (newest_B3L @ steps_BLF[..., :-1]).flatten(1)], dim=-1)


def candidate_match_features(x: RankerInputs, steps_BLF: Tensor) -> tuple[Tensor, Tensor]:
    """Meet the candidates with the steps of their author and of their tag.

    Returns:
        What the user did with them, `[B·N, match_columns(F)]`; and log(1 + hates) of the candidate's author,
        of its tag, and of anything, `[B·N, 3]`.
    """
    b, n, _ = x.candidate_ids.shape
    total_BMF = _same_author_and_tag(x) @ steps_BLF
    hated_BL1 = steps_BLF[..., -1:]
    # A matrix of ones, as in `_means`.
    any_B11 = torch.ones_like(hated_BL1).transpose(1, 2) @ hated_BL1
    hated_BN3 = torch.cat([total_BMF[..., -1].reshape(b, n, 2), any_B11.expand(b, n, 1)], dim=2)
    columns = match_columns(total_BMF.shape[2] - 4)
    return _means(total_BMF).reshape(-1, columns), torch.log1p(hated_BN3).flatten(0, 1)


def _same_author_and_tag(x: RankerInputs) -> Tensor:
    """1 where a step has the candidate's author, then where it has its tag, `[B, 2·N, L]`."""
    seen_BL2 = x.sequence_ids[..., 1:3]
    # An unknown id matches none. Ruled out among the few steps rather than at each candidate.
    seen_BL2 = torch.where(seen_BL2 == UNKNOWN, _NO_ID, seen_BL2)
    same_BN2L = x.candidate_ids[..., 1:3, None] == seen_BL2.transpose(1, 2)[:, None]
    b, n, two, steps = same_BN2L.shape
    # One matrix a user: ONNX Runtime cannot spread the steps over no candidates of several users.
    return same_BN2L.to(x.sequence_feedback.dtype).reshape(b, n * two, steps)


def _means(total: Tensor) -> Tensor:
    """Sums over steps -> the mean of what was done, shrunk towards 0 by one step, and the log of the count:
    `[B, N, F + 4]` -> `[B, N, F + 1]`.

    The count is a column of the matrix product, not a sum: ONNX Runtime's ReduceSum loses the axis when the
    sequence is empty.
    """
    count = total[..., -2:-1] + 1.0
    return torch.cat([total[..., :-4] / count, torch.log(count) / 4.0], dim=-1)
