"""DIN: the recommender inside LabelCraft. A user, what they saw before, and candidates -> a logit each."""

# Shape suffixes: U users (or rows), C candidates a user, L history steps, I id columns (video, duration
# group, tag), E one embedding, D = 3E an item.

from __future__ import annotations

from typing import NamedTuple

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from models.vocabulary import PADDING
from training.config import Config


class DinInputs(NamedTuple):
    """What DIN reads. Row 0 of an id column is padding."""

    user: Tensor
    """`[U]` int64, row of the user table"""
    candidate: Tensor
    """`[U, C, 3]` int64"""
    history: Tensor
    """`[U, L, 3]` int64; L may be 0"""
    visible: Tensor | None
    """`[U, C, L]` true where a candidate's history includes the step; `None`: every candidate sees all.

    With it, the candidates of one user share one timeline although each has its own causal history.
    """


class DinConfig(Config):
    """Sizes of `DIN`. Defaults are those of baiyimeng/LabelCraft@dce15ee."""

    embedding: PositiveInt = 12
    """Width of each of the four embeddings: user, video, duration group, tag."""

    attention: PositiveInt = 36
    """Hidden width of the attention's two linear layers."""

    tower: tuple[PositiveInt, PositiveInt] = (200, 80)
    """Hidden widths of the tower."""


class Dice(nn.Module):
    """x where it is unusual for its layer, α x where it is not: `p x + α (1 - p) x`, p = σ(norm(x)).

    Source: Zhou et al., "Deep Interest Network", KDD 2018. Deviation: the norm is over the features of a
    row (LayerNorm), not over the batch. The authors' batch norm is never switched to evaluation, so a
    candidate's score depends on which others are scored with it; here it cannot.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.alpha = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        p = torch.sigmoid(self.norm(x))
        return p * x + self.alpha * (1 - p) * x


class DIN(nn.Module):
    """Deep interest network as LabelCraft's harness has it.

        s_j = a'(W [q, h_j, q - h_j, q ⊙ h_j] + b) + b'      no activation between, no softmax
        z = tower([q, Σ_j s_j h_j, user])                    84 -> 200 -> Dice -> 80 -> Dice -> 1

    q and h_j are the concatenated embeddings of video, duration group and tag; padded steps get s_j = 0.
    Since nothing is between the attention's two layers, s_j = ⟨h_j, r(q)⟩ + c(q) with r and c from their
    product: the same function and the same gradients at a hundredth of the work, as two matrix products.

    Args:
        users, videos, groups, tags: rows of the four tables, row 0 included.
        config: sizes.

    Source: Zhou et al., KDD 2018; the variant of baiyimeng/LabelCraft@dce15ee. Weights xavier-normal,
    biases zero, as there.
    """

    def __init__(
        self, *, users: int, videos: int, groups: int, tags: int, config: DinConfig | None = None
    ) -> None:
        super().__init__()
        config = config or DinConfig()
        width = config.embedding
        self.user = nn.Embedding(users, width)
        self.item = nn.ModuleList(nn.Embedding(rows, width) for rows in (videos, groups, tags))
        item = 3 * width
        self.attention = nn.Sequential(nn.Linear(4 * item, config.attention), nn.Linear(config.attention, 1))
        first, second = config.tower
        self.tower = nn.Sequential(
            nn.Linear(2 * item + width, first),
            Dice(first),
            nn.Linear(first, second),
            Dice(second),
            nn.Linear(second, 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                nn.init.xavier_normal_(module.weight)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(
        self, user_U: Tensor, candidate_UCI: Tensor, history_ULI: Tensor, visible_UCL: Tensor | None = None
    ) -> Tensor:
        """`[U, C]` logits; the arguments are the members of `DinInputs`."""
        z: Tensor = self.tower(self.joined(user_U, candidate_UCI, history_ULI, visible_UCL))
        return z[..., 0]

    def joined(
        self, user_U: Tensor, candidate_UCI: Tensor, history_ULI: Tensor, visible_UCL: Tensor | None = None
    ) -> Tensor:
        """`[U, C, 84]` what the tower sees: candidate, pooled history, user."""
        q_UCD = self._items(candidate_UCI)
        pooled_UCD = self._pooled(q_UCD, history_ULI, visible_UCL)
        user_UCE = self.user(user_U)[:, None, :].expand(-1, q_UCD.shape[1], -1)
        return torch.cat([q_UCD, pooled_UCD, user_UCE], -1)

    def _items(self, ids: Tensor) -> Tensor:
        return torch.cat([table(ids[..., i]) for i, table in enumerate(self.item)], -1)

    def _pooled(self, q_UCD: Tensor, history_ULI: Tensor, visible_UCL: Tensor | None) -> Tensor:
        """`[U, C, D]` Σ_j s_j h_j."""
        first, second = self.attention
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        of_q, of_h, of_difference, of_product = (second.weight @ first.weight).view(4, -1)
        constant = second.weight @ first.bias + second.bias
        r_UCD = of_h - of_difference + of_product * q_UCD
        c_UC = q_UCD @ (of_q + of_difference) + constant

        # A table at a time: concatenating them along the history would cost as much as the products.
        h_ULE = [table(history_ULI[..., i]) for i, table in enumerate(self.item)]
        r_UCE = r_UCD.chunk(len(h_ULE), -1)
        products = (r @ h.transpose(1, 2) for r, h in zip(r_UCE, h_ULE, strict=True))
        seen_UCL = (history_ULI[..., 0] != PADDING)[:, None, :]
        if visible_UCL is not None:
            seen_UCL = seen_UCL & visible_UCL
        s_UCL = sum(products, c_UC[..., None]) * seen_UCL
        return torch.cat([s_UCL @ h for h in h_ULE], -1)
