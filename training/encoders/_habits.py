"""Running statistics of a user, computed inside the graph so that they are the same offline and online."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from models.vocabulary import UNKNOWN
from training.encoders._inputs import RankerInputs
from training.encoders._steps import DONE

# Shape suffixes: B users, L steps, N candidates (or windows), F columns of what was done.

RECENT: Final = 3
"""So many of the newest steps are also read one by one."""

HABITS: Final = 4 * (len(DONE) + 1) + RECENT * (len(DONE) + 3) + 2
"""Columns of `habits`."""

MATCHED: Final = 2 * (len(DONE) + 1)
"""Columns of `matched`."""


def habits(x: RankerInputs, done_BLF: Tensor, valid_BL: Tensor, log_age_BL: Tensor) -> Tensor:
    """What the user does -> `[B, HABITS]`.

    Means over all steps, over those of the same tab, of its last half hour and of its last day, each with its
    log count; then the newest steps one by one, and how long ago the newest was.

    Args:
        x: the inputs, of which ids, durations and ages are read.
        done_BLF: `[B, L, F]` columns `DONE`, 0 on padding.
        valid_BL: 0 on padding.
        log_age_BL: log(1 + age in seconds) / 10.
    """
    same_tab = valid_BL * (x.sequence_ids[..., 3] == x.context_ids).float()
    half_hour = same_tab * (x.sequence_age_s < 1800.0).float()
    day = same_tab * (x.sequence_age_s < 86_400.0).float()
    means = _mean(done_BLF, torch.stack([valid_BL, same_tab, half_hour, day], dim=1))
    newest = torch.cat(
        [
            done_BLF,
            torch.log1p(x.sequence_feedback[..., 1:2]) / 4.0 * valid_BL[..., None],
            (1.0 - log_age_BL[..., None]) * valid_BL[..., None],
            valid_BL[..., None],
        ],
        dim=-1,
    )
    newest = F.pad(newest, (0, 0, RECENT, 0))[:, -RECENT:]
    gap = F.pad((1.0 - log_age_BL) * valid_BL, (1, 0))
    return torch.cat(
        [means.flatten(1), newest.flatten(1), gap.amax(dim=1, keepdim=True), gap[:, -1:]], dim=-1
    )


def matched(x: RankerInputs, done_BLF: Tensor, valid_BL: Tensor) -> Tensor:
    """What the user did with the candidate's author, and with its tag -> `[B, N, MATCHED]`."""
    wanted, seen = x.candidate_ids[..., 1:3, None], x.sequence_ids[:, None, :, 1:3].transpose(2, 3)
    same_BN2L = ((wanted == seen) & (wanted != UNKNOWN)).float() * valid_BL[:, None, None, :]
    b, n, two, steps = same_BN2L.shape
    # One matrix a user: ONNX Runtime cannot spread the steps over no candidates of several users.
    return _mean(done_BLF, same_BN2L.reshape(b, n * two, steps)).reshape(b, n, MATCHED)


def _mean(done_BLF: Tensor, weight_BNL: Tensor) -> Tensor:
    """Weighted mean of the steps, shrunk towards 0 by one step, and the log of the count: `[B, N, F+1]`.

    The count is a matrix product with ones, not a sum: ONNX Runtime's ReduceSum loses the axis when the
    sequence is empty.
    """
    total = weight_BNL @ torch.cat([done_BLF, torch.ones_like(done_BLF[..., :1])], dim=-1)
    count = total[..., -1:]
    return torch.cat([total[..., :-1] / (count + 1.0), torch.log1p(count) / 4.0], dim=-1)
