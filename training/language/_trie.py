"""The trie of all videos' tokens: what may follow a prefix."""

# Shape suffixes: V videos, T tokens of a video, N nodes of a level, C most children of a node of a level.

from __future__ import annotations

from typing import Final, Self

import numpy as np
import torch
from torch import Tensor

from models.arrays import I64
from training.language._semantic_ids import SemanticIds

NONE: Final = -1


class Trie:
    """Nodes by level: level 0 is the root, level T the videos, in the order of their tokens.

    Args:
        token_VT: of the videos of the catalogue.
        video_V: which they are.
    """

    def __init__(self, token_VT: I64, video_V: I64) -> None:
        order = np.lexsort(token_VT.T[::-1])
        token_VT, self.video = token_VT[order], torch.from_numpy(video_V[order])
        self.depth = token_VT.shape[1]
        """T."""
        self.token: list[Tensor] = [torch.zeros(1, dtype=torch.int64)]
        """By level, `[N]` the last token of a node."""
        self.parent: list[Tensor] = [torch.zeros(1, dtype=torch.int64)]
        """By level, `[N]` nodes of the level above."""
        self.children: list[Tensor] = []
        """By level above the last, `[N, C]` nodes of the level below, `NONE` where there are fewer."""
        self.videos_below: list[Tensor] = []
        """By level, `[N]`."""
        above_V = np.zeros(len(order), np.int64)
        for level in range(self.depth):
            new = np.append(
                True, (above_V[1:] != above_V[:-1]) | (token_VT[1:, level] != token_VT[:-1, level])
            )
            node_V = np.cumsum(new) - 1
            parent_N, token_N = above_V[new], token_VT[new, level]
            count_N = np.bincount(parent_N)
            position_N = np.arange(len(parent_N)) - (np.cumsum(count_N) - count_N)[parent_N]
            children = np.full((len(count_N), int(count_N.max())), NONE)
            children[parent_N, position_N] = np.arange(len(parent_N))
            self.children.append(torch.from_numpy(children))
            self.videos_below.append(torch.from_numpy(np.bincount(above_V)))
            self.token.append(torch.from_numpy(token_N))
            self.parent.append(torch.from_numpy(parent_N))
            above_V = node_V
        if len(self.token[-1]) != len(order):
            raise ValueError(
                "two videos have the same tokens; `fit_semantic_ids` tells them apart by the last."
            )
        self.videos_below.append(torch.ones(len(order), dtype=torch.int64))

    @classmethod
    def from_ids(cls, ids: SemanticIds) -> Self:
        """Return the trie of a whole catalogue."""
        return cls(ids.token[ids.catalogue], ids.catalogue)
