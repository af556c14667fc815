"""Matrix factorisation: a user and a video meet in the product of their embeddings alone."""

from __future__ import annotations

from typing import Self

from torch import Tensor

from training.experiments.forgetting.id_model import affinity
from training.experiments.forgetting.rows import Rows


class MatrixFactorisation:
    """⟨e_u, e_v⟩ + b_u + b_v. Nothing spills over: no row's prediction uses another row."""

    hops = 0

    def on_rows(self, rows: Rows) -> Self:
        return self

    def reached(self, node_V: Tensor) -> Tensor:
        return node_V

    def within(self, node_V: Tensor, index_V: Tensor) -> Self:
        return self

    def logits(self, table_VD: Tensor, rows: Rows) -> Tensor:
        return affinity(table_VD, rows)
