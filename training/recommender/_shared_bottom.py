"""Several labels, one recommender: heads on a shared bottom."""

# Shape suffixes: U users, C candidates, T heads.

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training.encoders import DIN, Dice, DinConfig


class SharedBottom(nn.Module):
    """DIN whose embeddings, attention and first tower layer serve T heads of a second layer and an output.

    With one head it is DIN.

    Source: LabelCraft's baselines "WT+EF", "D2Q+EF", "DVR+EF", whose code is not published; where the
    bottom ends is ours.

    Args:
        heads: T ≥ 1.
        config: sizes.
        rows: of DIN's four tables: `users`, `videos`, `groups`, `tags`.
    """

    def __init__(self, heads: int, config: DinConfig, **rows: int) -> None:
        super().__init__()
        self.din = DIN(**rows, config=config)
        bottom, hidden = config.tower
        self.more = nn.ModuleList(
            nn.Sequential(nn.Linear(bottom, hidden), Dice(hidden), nn.Linear(hidden, 1))
            for _ in range(heads - 1)
        )
        for module in self.more.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_normal_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, *inputs: Any) -> Tensor:
        """`[U, C, T]` logits; the arguments are the members of `DinInputs`."""
        shared = self.din.tower[:2](self.din.joined(*inputs))
        heads = (self.din.tower[2:], *self.more)
        return torch.cat([head(shared) for head in heads], -1)
