"""A step of the sequence in numbers: what was done at it, and when it came."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.features import FEEDBACK_COLUMNS
from models.schema import EXPLICIT
from models.signals import NO_SIGNALS, Signals
from training.strata import how_many

# Shape suffixes: B users, L steps, F columns of what was done.

STEP_COLUMNS: Final = (
    "long_view",
    "skip",
    "log_watch_time",
    "watch_ratio",
    "complete",
    *FEEDBACK_COLUMNS[2:],
)
"""The first columns of `StepFeedback`, of which means are taken, before those of own signals."""

RATIO_EDGES: Final = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 0.98, 1.1, 1.5, 2.0, 3.0)
"""Inner edges of the watch-ratio buckets: about even on a log scale, finer where people finish or start
again. None is at 1: players report a whole view as a little more or less."""

RATIO_WIDTH: Final = 4
"""Width of a bucket's embedding."""

FIRST_GAP_S: Final = 30 * 86_400.0
"""The time before the first step of a sequence: as if after a month."""


class StepFeedback(nn.Module):
    """Raw feedback -> what was done. The only way of feedback into the encoder.

    Columns `STEP_COLUMNS`, then own signals, amounts as log(1 + x); with `full` also whether it was an
    effective view (KuaiRand's valid play: w ≥ d up to 7 s, w > 7 s above) and the embedding of the bucket of
    w/d.
    """

    reach_s: Tensor
    short_of: Tensor
    order: Tensor
    ratio_edges: Tensor

    def __init__(self, *, full: bool, signals: Signals = NO_SIGNALS) -> None:
        super().__init__()
        self.ratio = nn.Embedding(len(RATIO_EDGES) + 1, RATIO_WIDTH) if full else None
        # long view, skip, complete: w against the lesser of d and this many seconds; a skip stays short of it
        self.register_buffer("reach_s", torch.tensor([18.0, 3.0, torch.inf]), persistent=False)
        self.register_buffer("short_of", torch.tensor([False, True, False]), persistent=False)
        self.columns = (*STEP_COLUMNS, *signals.names)
        """Those of which means are taken."""
        self.amounts = len(signals.numbers)
        computed = ["long_view", "skip", "complete", "log_watch_time", "watch_ratio", *self.columns[5:]]
        self.register_buffer(
            "order", torch.tensor([computed.index(n) for n in self.columns]), persistent=False
        )
        self.register_buffer("ratio_edges", torch.tensor(RATIO_EDGES), persistent=False)
        self.width = len(self.columns) + (1 + RATIO_WIDTH if full else 0)

    def forward(self, feedback_BLC: Tensor) -> Tensor:
        """Return `[B, L, F]` from `[B, L, 8 + S]`, columns as `FEEDBACK_COLUMNS`, then own signals."""
        w_BL1, d_BL1 = feedback_BLC[..., :1], feedback_BLC[..., 1:2].clamp(min=0.1)
        # Few operators on wide columns, not one for each column: an operator costs a microsecond.
        reached_BL3 = torch.logical_xor(w_BL1 >= torch.minimum(d_BL1, self.reach_s), self.short_of)
        columns = [
            reached_BL3.to(w_BL1.dtype),
            torch.log1p(w_BL1) / 4.0,
            (w_BL1 / d_BL1).clamp(max=3.0),
        ]
        if self.amounts:
            columns += [feedback_BLC[..., 2 : -self.amounts]]
            columns += [torch.log1p(feedback_BLC[..., -self.amounts :]) / 4.0]
        else:
            columns += [feedback_BLC[..., 2:]]
        feedback_BLF = torch.cat(columns, dim=-1).index_select(-1, self.order)
        if self.ratio is None:
            return feedback_BLF
        effective_BL1 = ((w_BL1 > 7.0) | ((d_BL1 <= 7.0) & (w_BL1 >= d_BL1))).to(w_BL1.dtype)
        bucket_BL = how_many((w_BL1 / d_BL1) >= self.ratio_edges)
        return torch.cat([feedback_BLF, effective_BL1, self.ratio(bucket_BL)], dim=-1)


def liked_and_skipped(feedback_BLF: Tensor) -> tuple[Tensor, Tensor]:
    """Return `[B, L]` each, 0 or 1: a long view or any explicit feedback; a skip without it."""
    signs = [STEP_COLUMNS.index(name) for name in ("long_view", *EXPLICIT)]
    # One column after the other: a reduction would run over no steps at all when the sequence is empty.
    liked = torch.stack([feedback_BLF[..., i] for i in signs]).amax(dim=0)
    return liked, feedback_BLF[..., STEP_COLUMNS.index("skip")] * (1.0 - liked)


def gap_s(age_BL: Tensor, valid_BL: Tensor) -> Tensor:
    """Return the `[B, L]` seconds since the step before, `FIRST_GAP_S` where there is none."""
    before_BL = F.pad(age_BL, (1, 0))[:, :-1]
    known_BL = F.pad(valid_BL, (1, 0))[:, :-1] > 0
    elapsed_BL = (before_BL - age_BL).clamp(min=0.0)
    return torch.where(known_BL, elapsed_BL, FIRST_GAP_S)
