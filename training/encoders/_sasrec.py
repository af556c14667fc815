"""SASRec4SV: a causal transformer over what a user was shown, one prediction a position."""

# Shape suffixes: U users, L positions (oldest first, padded on the left), E one embedding, D = 4E a token.

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from models.vocabulary import PADDING
from training.config import Config


class SASRecConfig(Config):
    """Sizes of `SASRec`. Defaults are those of SASRec4SV's report."""

    embedding: PositiveInt = 32
    """Width of each of the four embeddings: user, video, author, feedback before."""

    blocks: PositiveInt = 4
    heads: PositiveInt = 4
    feedforward: PositiveInt = 256
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1

    length: PositiveInt = 500
    """Positions; the newest are kept."""

    head: Literal["binary", "ratio"] = "binary"
    """`binary`: a logit, for any label in [0, 1]; `ratio`: a watch ratio ≥ 0, which may exceed 1."""


class SequenceInputs(NamedTuple):
    """What SASRec reads: U users, L positions each. Video row 0 is padding."""

    user: Tensor
    """`[U]` int64"""
    video: Tensor
    """`[U, L]` int64: what is shown at the position, the query"""
    author: Tensor
    """`[U, L]` int64"""
    feedback: Tensor
    """`[U, L]` int64, 0 … 5: how many kinds of explicit feedback the position got. A position sees those of
    earlier moments, never its own."""
    moment: Tensor
    """`[U, L]` int64: number of the moment, from 0 and rising; -1 on padding. Positions of one
    moment do not see each other: their order is unknown."""


FEEDBACK_KINDS = 6
"""Counts of like, follow, comment, forward and profile_enter, 0 … 5."""


class SASRec(nn.Module):
    """One prediction for each position from what is shown there and everything before it.

        token_t = [user, video_t, author_t, feedback before t] + position_t        4 x 32 = 128
        4 blocks of causal self-attention (4 heads) and a feed-forward layer (256), each with a residual
        out_t = Linear(128 -> 1), softplus for the ratio

    Source: SASRec4SV (report, slides, notebook); Kang and McAuley, SASRec, ICDM 2018. Deviations, each a
    defect of the notebook: feedback is that of the moment before (there a position reads its own, the
    answer); padding is no attention key (there it is); ratios are floats (there rounded down to integers).
    Nor is a position of the same millisecond, which a phone that reports several plays at once makes.
    Softplus in place of ReLU, which has no gradient once it is 0.

    Args:
        users, videos, authors: rows of the tables.
        config: sizes.
    """

    def __init__(self, *, users: int, videos: int, authors: int, config: SASRecConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SASRecConfig()
        width = 4 * config.embedding
        self.user = nn.Embedding(users, config.embedding)
        self.video = nn.Embedding(videos, config.embedding, padding_idx=PADDING)
        self.author = nn.Embedding(authors, config.embedding, padding_idx=PADDING)
        self.before = nn.Embedding(FEEDBACK_KINDS + 1, config.embedding)  # the last row: nothing before
        self.position = nn.Parameter(torch.zeros(config.length, width))
        layer = nn.TransformerEncoderLayer(
            width, config.heads, config.feedforward, config.dropout, batch_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, config.blocks, enable_nested_tensor=False)
        self.out = nn.Linear(width, 1)

    def forward(self, inputs: SequenceInputs) -> Tensor:
        """`[U, L]` logits (`binary`) or watch ratios (`ratio`); what stands on padding means nothing.

        Raises:
            ValueError: more positions than `config.length`.
        """
        length = inputs.video.shape[1]
        if length > self.config.length:
            raise ValueError(f"at most {self.config.length} positions, found {length}; keep the newest.")
        real_UL = inputs.video != PADDING
        earlier_ULL = inputs.moment[:, None, :] < inputs.moment[:, :, None]
        last_UL = earlier_ULL.sum(-1) - 1  # the newest position of an earlier moment; padding is earlier too
        at_UL = last_UL.clamp(min=0)
        nothing_UL = (last_UL < 0) | ~real_UL.gather(1, at_UL)
        before_UL = torch.where(nothing_UL, FEEDBACK_KINDS, inputs.feedback.gather(1, at_UL))
        token_ULD = torch.cat(
            [
                self.user(inputs.user)[:, None].expand(-1, length, -1),
                self.video(inputs.video),
                self.author(inputs.author),
                self.before(before_UL),
            ],
            -1,
        )
        # Counted from the newest position, so that padding in front changes nothing.
        token_ULD = token_ULD + self.position[self.config.length - length :]
        # Each position attends to itself too, a padded one to itself alone: with no key a softmax is NaN.
        own_LL = torch.eye(length, dtype=torch.bool)
        blocked_ULL = ~(own_LL | (earlier_ULL & real_UL[:, None, :]))
        mask = blocked_ULL.repeat_interleave(self.config.heads, 0)
        out_UL = self.out(self.blocks(token_ULD, mask=mask))[..., 0]
        return nn.functional.softplus(out_UL) if self.config.head == "ratio" else out_UL
