"""Several label makers as the one module that `labeler.onnx` is exported from."""

# Shape suffixes: N rows.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from models.features import Array
from models.manifest import PERCENTILES
from training.data import Interactions
from training.labels._base import LabelMaker, labels_of
from training.labels._percentiles import Percentiles


class LabelMakers(nn.Module):
    """Feedback, and group ids where a label depends on them -> one `[N]` label each, and percentiles."""

    def __init__(self, makers: Sequence[LabelMaker]) -> None:
        super().__init__()
        self.makers = nn.ModuleList(makers)
        self.percentiles = Percentiles(len(makers))
        self.names = tuple(maker.name for maker in makers)
        self.outputs = (*self.names, PERCENTILES)
        self.by_user = tuple(maker.name for maker in makers if "user_group" in maker.group_columns)
        self.grouped = any(maker.group_columns for maker in makers)

    def forward(self, feedback: Tensor, group_ids: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return `[N]` labels, in the order of `names`, and `[N, T]` percentiles; arguments as in
        `LabelMaker.forward`."""
        labels = tuple(maker(feedback, group_ids) for maker in self)
        return (*labels, self.percentiles(torch.cat(labels).reshape(len(labels), -1)))

    def fit_percentiles(self, train: Interactions) -> Self:
        """Rank labels among those of the training rows. The label makers must be fitted."""
        self.percentiles.fit(np.stack([labels_of(maker, train) for maker in self]))
        return self

    def __iter__(self) -> Iterator[LabelMaker]:
        return iter(cast(Sequence[LabelMaker], self.makers))

    def inputs(self, feedback: Array, group_ids: Array) -> dict[str, Array]:
        """Return the inputs of the graph, by name."""
        return {"feedback": feedback} | ({"group_ids": group_ids} if self.grouped else {})
