"""Own features of videos, as columns of a candidate."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.arrays import F32
from models.video_features import MAX_VALUES, VideoFeatures
from models.vocabulary import PADDING

# Shape suffixes: B users, N candidates, V videos, F columns of numbers, C categories, J values of a category.

WIDTH = 8
"""Of a category's embedding."""
_STD = 0.05
"""Deviation of the initial embeddings."""


class VideoFeatureColumns(nn.Module):
    """Numbers and embeddings standardised over the fitted videos, and which are missing; of each category the
    mean embedding of its values.

    Args:
        features: those that the log declares.
        sizes: rows of the vocabulary for each category.
    """

    mean: Tensor
    std: Tensor
    is_amount: Tensor
    first_column: Tensor
    offset: Tensor

    def __init__(self, features: VideoFeatures, sizes: tuple[int, ...]) -> None:
        super().__init__()
        amounts = len(features.numbers)
        starts = [*range(amounts), *(columns.start for _, columns in features.columns_of_embeddings())]
        self.register_buffer("mean", torch.zeros(features.width))
        self.register_buffer("std", torch.ones(features.width))
        self.register_buffer("is_amount", torch.arange(features.width) < amounts, persistent=False)
        self.register_buffer("first_column", torch.tensor(starts, dtype=torch.int64), persistent=False)
        offsets = torch.tensor([0, *sizes]).cumsum(0)[:-1, None]
        self.register_buffer("offset", offsets, persistent=False)
        self.table = nn.Embedding(max(sum(sizes), 1), WIDTH)
        nn.init.normal_(self.table.weight, std=_STD)
        self.categories = len(sizes)

    @property
    def width(self) -> int:
        """Columns that `forward` returns."""
        return len(self.mean) + len(self.first_column) + WIDTH * self.categories

    def fit(self, numbers_VF: F32) -> None:
        """Standardise the numbers by these videos; what all videos share, or none has, stays as it is."""
        numbers = self._squash(torch.from_numpy(numbers_VF))
        self.mean.copy_(numbers.nanmean(dim=0).nan_to_num())
        spread = (numbers - self.mean).square().nanmean(dim=0).sqrt().nan_to_num(1.0)
        self.std.copy_(torch.where(spread > 1e-6, spread, torch.ones_like(spread)))

    def forward(self, numbers_BNF: Tensor, categories_BNK: Tensor, dropout: float = 0.0) -> Tensor:
        """Return the columns, `[B, N, X]`.

        Args:
            numbers_BNF: NaN where unknown.
            categories_BNK: `MAX_VALUES` rows of the vocabulary for each category, filled up with `PADDING`.
            dropout: the share of candidates whose features are unknown, so that this is a trained case.
        """
        if self.training and dropout > 0:
            dropped = torch.rand(*numbers_BNF.shape[:2], 1) < dropout
            numbers_BNF = numbers_BNF.masked_fill(dropped, torch.nan)
            categories_BNK = categories_BNK.masked_fill(dropped, PADDING)
        columns = []
        if len(self.mean):
            missing = torch.isnan(numbers_BNF)
            scaled = (self._squash(numbers_BNF) - self.mean) / self.std
            columns.append(torch.where(missing, 0.0, scaled).clamp(-4.0, 4.0))
            columns.append(missing[..., self.first_column].to(scaled.dtype))
        if self.categories:
            rows_BNCJ = categories_BNK.reshape(*categories_BNK.shape[:2], self.categories, MAX_VALUES)
            known = (rows_BNCJ != PADDING).to(self.table.weight.dtype)[..., None]
            values = embedding(rows_BNCJ + self.offset, self.table.weight)
            mean = (values * known).sum(dim=3) / known.sum(dim=3).clamp(min=1.0)
            columns.append(mean.flatten(2))
        return torch.cat(columns, dim=-1)

    def _squash(self, numbers: Tensor) -> Tensor:
        """sign(x)·log(1 + |x|) of numbers, which may span decades; components of embeddings as they are."""
        return torch.where(self.is_amount, torch.sign(numbers) * torch.log1p(numbers.abs()), numbers)
