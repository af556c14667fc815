"""Q(s, a) over sets of candidates: the catalogue is a table of vectors, never a layer."""

# Shape suffixes: S columns of a state, E of a video's vector, H hidden width, C candidates, V videos.

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Scores(NamedTuple):
    """Of every candidate, `[..., C]`."""

    value: Tensor
    """Q(s, a), in units of the reward."""
    logit: Tensor
    """The log's policy is its softmax."""


class QNetwork(nn.Module):
    """Two layers on state, video, and their product.

        z = ReLU(W [h, e, h∘e]),   h = A s,   e = B v
        Q = scale · q·z,           logit = l·z

    The cost depends on the number of candidates alone.

    Args:
        states: S.
        vectors: `[V, E]` frozen vectors of the videos; may be a memory map.
        hidden: H.
        scale: a typical return, so that weights of size 1 are right for any reward.
    """

    scale: Tensor

    def __init__(self, states: int, vectors: Tensor, *, hidden: int, scale: float) -> None:
        super().__init__()
        self.vectors = vectors  # no buffer: not copied, and not a part of the fitted weights
        self.state = nn.Linear(states, hidden)
        self.video = nn.Linear(vectors.shape[1], hidden)
        self.mix = nn.Linear(3 * hidden, hidden)
        self.out = nn.Linear(hidden, 2)
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, state: Tensor, candidates: Tensor) -> Scores:
        """Score `[..., C]` candidates in `[..., S]` states."""
        h = self.state(state)[..., None, :].expand(*candidates.shape, -1)
        e = self.video(self.vectors[candidates])
        out = self.out(torch.relu(self.mix(torch.cat([h, e, h * e], dim=-1))))
        return Scores(out[..., 0] * self.scale, out[..., 1])
