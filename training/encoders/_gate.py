"""How much a skip counts: users skip what they dislike, and in a hurry everything."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from models.schema import SESSION_GAP_MS
from training.encoders._steps import gap_s

# Shape suffixes: B users, L steps, C columns of the context.

CONTEXT: Final = ("position", "streak", "gap", "hurried")
"""Columns of `skip_context`."""

SESSION_GAP_S: Final = SESSION_GAP_MS / 1000


def skip_context(skipped_BL: Tensor, age_BL: Tensor, valid_BL: Tensor) -> Tensor:
    """Return the circumstances of each step.

    * position: log(1 + steps of the session before it) / 4;
    * streak: log(1 + skips of the session right before it) / 4;
    * gap: log(1 + seconds since the step before) / 10, see `gap_s`;
    * hurried: share of skips among the session's *other* steps, those after it too (they lie before the
      ranking), shrunk towards 0 by one step.

    All from counts of pairs of steps, `[L, L]`: at most 100 steps are cheap, and nothing is scanned.

    Args:
        skipped_BL: `[B, L]` 0 or 1.
        age_BL: seconds from the step to the ranking.
        valid_BL: 0 on padding.

    Returns:
        `[B, L, 4]`, columns as in `CONTEXT`; meaningless where `valid_BL` is 0.
    """
    gap_BL = gap_s(age_BL, valid_BL)
    session_BL = torch.cumsum((gap_BL > SESSION_GAP_S).to(age_BL.dtype), dim=1)
    skip_BL = skipped_BL * valid_BL
    kept_BL = valid_BL - skip_BL
    kept_until_BL = torch.cumsum(kept_BL, dim=1)

    at_L = torch.arange(age_BL.shape[1])
    earlier_LL = at_L[None, :] < at_L[:, None]
    together_BLL = session_BL[:, :, None] == session_BL[:, None, :]
    before_BLL = together_BLL & earlier_LL
    # Nothing was kept between an earlier skip and step j: the counts of kept steps agree.
    unbroken_BLL = before_BLL & (kept_until_BL[:, None, :] == (kept_until_BL - kept_BL)[:, :, None])

    counted_BL2 = torch.stack([valid_BL, skip_BL], dim=-1)
    position_BL = (before_BLL.to(age_BL.dtype) @ counted_BL2)[..., 0]
    streak_BL = (unbroken_BLL.to(age_BL.dtype) @ counted_BL2)[..., 1]
    session_BL2 = together_BLL.to(age_BL.dtype) @ counted_BL2
    hurried_BL = (session_BL2[..., 1] - skip_BL) / session_BL2[..., 0].clamp(min=1.0)
    return torch.stack(
        [
            torch.log1p(position_BL) / 4.0,
            torch.log1p(streak_BL) / 4.0,
            torch.log1p(gap_BL) / 10.0,
            hurried_BL,
        ],
        dim=-1,
    )


class SkipGate(nn.Module):
    """What share of a skip counts.

        g_j = σ(MLP(context_j, tab_j))        one hidden layer

    It begins near 1, where every skip counts.

    After "Learning and Optimization of Implicit Negative Feedback…", arXiv 2308.13249, whose abstract has
    skips depend on their context; the columns and the layers are ours.

    Args:
        tab: width of a tab's embedding.
        hidden: width of the hidden layer.
    """

    def __init__(self, tab: int, hidden: int = 16) -> None:
        super().__init__()
        self.last = nn.Linear(hidden, 1)
        self.mlp = nn.Sequential(nn.Linear(len(CONTEXT) + tab, hidden), nn.GELU(), self.last)
        nn.init.constant_(self.last.bias, 2.0)

    def forward(self, context_BLC: Tensor, tab_BLT: Tensor) -> Tensor:
        """Return the `[B, L]` shares in (0, 1)."""
        logit: Tensor = self.mlp(torch.cat([context_BLC, tab_BLT], dim=-1))
        return torch.sigmoid(logit)[..., 0]
