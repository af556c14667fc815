"""What a language model answers, and a small causal transformer from scratch that does."""

# Shape suffixes: B rows, L positions, D width, H heads, K width of a head, W continuations of a prompt,
# S tokens of a continuation.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from models.vocabulary import PADDING
from training.config import Config


class TransformerConfig(Config):
    """Sizes of `CausalTransformer`."""

    width: PositiveInt = 48
    blocks: PositiveInt = 2
    heads: PositiveInt = 2
    feedforward: PositiveInt = 96
    dropout: float = Field(default=0.0, ge=0, lt=1)


class Prompt(NamedTuple):
    """What the model remembers of B prompts."""

    keys: list[Tensor]
    """By block, `[B, H, L, K]`."""
    values: list[Tensor]
    real: Tensor
    """`[B, L]`"""
    last: Tensor
    """`[B, D]` state of the last token."""


class Suffix(NamedTuple):
    """What the model remembers of W continuations of each of B prompts."""

    keys: list[Tensor]
    """By block, `[B, W, S, H, K]`."""
    values: list[Tensor]

    def take(self, index_BW: Tensor) -> Suffix:
        """Return the continuations of an index, `[B, W']` into W."""
        rows = torch.arange(len(index_BW))[:, None]
        return Suffix([key[rows, index_BW] for key in self.keys], [v[rows, index_BW] for v in self.values])


class _Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.before_attention, self.before_feedforward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feedforward = nn.Sequential(
            nn.Linear(width, config.feedforward), nn.GELU(), nn.Linear(config.feedforward, width)
        )
        self.dropout = nn.Dropout(config.dropout)

    def project_heads(self, x: Tensor) -> Tensor:
        """`[..., D]` -> queries, keys and values, `[3, ..., H, K]`."""
        out: Tensor = self.project(self.before_attention(x))
        heads: Tensor = out.reshape(*x.shape[:-1], 3, self.heads, -1).movedim(-3, 0)
        return heads

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Add what attention found, and the feed-forward layer."""
        x = x + self.dropout(self.out(attended))
        out: Tensor = x + self.dropout(self.feedforward(self.before_feedforward(x)))
        return out


class LanguageModel(nn.Module, ABC):
    """Logits of the next token from all tokens before it; the output is tied to the embedding.

    Padding is on the left and changes nothing.
    """

    embedding: nn.Embedding

    def forward(self, token_BL: Tensor) -> Tensor:
        """Return the state of every position, `[B, L, D]`; what stands on padding means nothing."""
        return self._states(token_BL)[0]

    def logits(self, state: Tensor) -> Tensor:
        """`[..., D]` states -> `[..., tokens]`."""
        return state @ self.embedding.weight.T

    def read(self, token_BL: Tensor) -> Prompt:
        """Read prompts, padded on the left."""
        state_BLD, keys, values = self._states(token_BL)
        return Prompt(keys, values, token_BL != PADDING, state_BLD[:, -1])

    @abstractmethod
    def extend(self, prompt: Prompt, suffix: Suffix | None, token_BW: Tensor) -> tuple[Tensor, Suffix]:
        """Add a token to each continuation.

        Args:
            prompt: of B.
            suffix: W continuations of each; `None` for the first token.
            token_BW: their next tokens.

        Returns:
            States `[B, W, D]`, and the continuations.
        """

    @abstractmethod
    def _states(self, token_BL: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Return states `[B, L, D]`, and by block the keys and values of `Prompt`."""


class CausalTransformer(LanguageModel):
    """Pre-norm blocks with rotary positions, counted from the first token that is no padding.

    Args:
        tokens: how many there are.
        config: sizes.

    Source: Vaswani et al., NIPS 2017; Su et al., RoFormer, 2021.
    """

    def __init__(self, tokens: int, config: TransformerConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or TransformerConfig()
        self.embedding = nn.Embedding(tokens, config.width, padding_idx=PADDING)
        nn.init.normal_(self.embedding.weight, std=0.05)
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(config.width)
        self.dropout = nn.Dropout(config.dropout)

    def extend(self, prompt: Prompt, suffix: Suffix | None, token_BW: Tensor) -> tuple[Tensor, Suffix]:
        length = 0 if suffix is None else suffix.keys[0].shape[2]
        position_B1 = prompt.real.sum(1, keepdim=True) + length
        x_BWD = self.embedding(token_BW)
        shut_B11L = torch.where(prompt.real, 0.0, float("-inf"))[:, None, None]
        keys, values = [], []
        for at, block in enumerate(self._each_block()):
            query, key, value = block.project_heads(x_BWD)  # [B, W, H, K]
            query, key = _rotated(query, position_B1), _rotated(key, position_B1)
            key, value = key[:, :, None], value[:, :, None]
            if suffix is not None:
                key = torch.cat([suffix.keys[at], key], dim=2)
                value = torch.cat([suffix.values[at], value], dim=2)
            keys.append(key)
            values.append(value)
            query = query * query.shape[-1] ** -0.5
            to_prompt_BHWL = query.transpose(1, 2) @ prompt.keys[at].mT + shut_B11L
            to_suffix_BHWS = torch.einsum("bwhk,bwshk->bhws", query, key)
            weight = torch.softmax(torch.cat([to_prompt_BHWL, to_suffix_BHWS], dim=-1), dim=-1)
            split = to_prompt_BHWL.shape[-1]
            attended = (weight[..., :split] @ prompt.values[at]).transpose(1, 2)
            attended = attended + torch.einsum("bhws,bwshk->bwhk", weight[..., split:], value)
            x_BWD = block.finish(x_BWD, attended.flatten(2))
        return self.norm(x_BWD), Suffix(keys, values)

    def _each_block(self) -> Sequence[_Block]:
        return cast(Sequence[_Block], self.blocks)

    def _states(self, token_BL: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        position_BL, open_B1LL = causal_attention(token_BL)
        x_BLD = self.dropout(self.embedding(token_BL))
        keys, values = [], []
        for block in self._each_block():
            query, key, value = block.project_heads(x_BLD)  # [B, L, H, K]
            query = _rotated(query, position_BL).transpose(1, 2)
            key, value = _rotated(key, position_BL).transpose(1, 2), value.transpose(1, 2)
            keys.append(key)
            values.append(value)
            attended = F.scaled_dot_product_attention(query, key, value, attn_mask=open_B1LL)
            x_BLD = block.finish(x_BLD, attended.transpose(1, 2).flatten(2))
        return self.norm(x_BLD), keys, values


def causal_attention(token_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Return positions that count no padding `[B, L]`, and what may be attended to, `[B, 1, L, L]`."""
    real_BL = token_BL != PADDING
    length = token_BL.shape[1]
    causal_LL = torch.ones(length, length, dtype=torch.bool).tril()
    # A padded position attends to itself: with no key a softmax is NaN.
    open_BLL = causal_LL & real_BL[:, None] | torch.eye(length, dtype=torch.bool)
    return (real_BL.cumsum(1) - 1).clamp(min=0), open_BLL[:, None]


def _rotated(x: Tensor, position: Tensor) -> Tensor:
    """Turn pairs of columns of `[B, L, H, K]` by angles that grow with `[B, L]` positions."""
    half = x.shape[-1] // 2
    rate_K = 10_000.0 ** -(torch.arange(half) / half)
    angle = (position[..., None] * rate_K)[:, :, None]
    cos, sin = angle.cos(), angle.sin()
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)
