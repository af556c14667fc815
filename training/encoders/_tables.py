"""Embedding tables of the served encoder, and one lookup for all of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.vocabulary import PADDING
from training.encoders._statistics import KEYS, VideoStatistics

# Shape suffixes: B users, N candidates or steps, V width of an embedding, W = V + statistics of a key.

TAB_WIDTH = 4
"""Width of a tab's embedding, and of a duration group's."""
CATEGORY_WIDTH = 3
_STD = 0.05
"""Deviation of the initial embeddings."""


class EmbeddingTables(nn.Module):
    """Embeddings of video, author, tag, tab and profile categories, with the statistics of the first three.

    Args:
        sizes: rows of the vocabulary for video, author, tag and tab.
        categories: rows of the vocabulary for each categorical profile feature.
        width: V.
    """

    category_offset: Tensor
    key_offset: Tensor

    def __init__(self, sizes: tuple[int, int, int, int], categories: tuple[int, ...], width: int) -> None:
        super().__init__()
        video, author, tag, tab = sizes
        self.video = nn.Embedding(video, width, padding_idx=PADDING)
        self.author = nn.Embedding(author, width, padding_idx=PADDING)
        self.tag = nn.Embedding(tag, width, padding_idx=PADDING)
        self.tab = nn.Embedding(tab, TAB_WIDTH, padding_idx=PADDING)
        # One table for all categories, each at an offset of its own: one lookup instead of Q.
        self.category = nn.Embedding(max(sum(categories), 1), CATEGORY_WIDTH)
        for table in (self.video, self.author, self.tag, self.tab, self.category):
            nn.init.normal_(table.weight, std=_STD)
        self.statistics = VideoStatistics((video, author, tag))
        offsets = torch.tensor([0, *categories]).cumsum(0)[:-1]
        self.register_buffer("category_offset", offsets, persistent=False)
        self.register_buffer("key_offset", torch.tensor([0, video, video + author]), persistent=False)
        self.width = width

    def embed(self, ids_BN3: Tensor) -> Tensor:
        """Return the embeddings of (video, author, tag), `[B, N, 3, V]`."""
        if torch.compiler.is_exporting():
            return self._lookup(ids_BN3)[..., : self.width]
        keys = (self.video, self.author, self.tag)
        return torch.stack([key(ids_BN3[..., k]) for k, key in enumerate(keys)], dim=2)

    def embed_with_statistics(
        self, ids_BN3: Tensor, known_BN3: Tensor, statistics_BNS: Tensor | None
    ) -> Tensor:
        """Return embedding and scaled statistics of video, author and tag side by side, `[B, N, 3, W]`.

        Args:
            ids_BN3: the ids, of which some may have been dropped.
            known_BN3: the same without dropout, for the statistics.
            statistics_BNS: the statistics; from the frozen tables when left out.
        """
        if statistics_BNS is None and torch.compiler.is_exporting():
            return self._lookup(ids_BN3)
        if statistics_BNS is None:
            statistics_BNS = self.statistics(known_BN3)
        columns = self.statistics.scale(statistics_BNS).reshape(
            *ids_BN3.shape[:2], KEYS, self.statistics.width // KEYS
        )
        return torch.cat([self.embed(ids_BN3), columns], dim=-1)

    def _lookup(self, ids_BN3: Tensor) -> Tensor:
        """Embedding and frozen statistics by one lookup, in one table that holds each key's at an offset.

        For graphs alone, which hold that table ready: here it would be put together at every call.
        """
        keys = (self.video, self.author, self.tag)
        table = torch.cat(
            [torch.cat([key.weight, self.statistics.scaled_table(k)], dim=1) for k, key in enumerate(keys)]
        )
        return embedding(ids_BN3 + self.key_offset, table)

    def categories(self, profile_ids_BQ: Tensor) -> Tensor:
        """Return the embeddings of the profile's categories side by side, `[B, 3 Q]`."""
        embedded: Tensor = self.category(profile_ids_BQ + self.category_offset)
        return embedded.flatten(1)
