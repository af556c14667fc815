"""LightGCN of one layer: embeddings averaged over the graph of the long views."""

# Shape suffixes: E directed edges, V nodes, D embedding and bias.

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from training.experiments.forgetting.id_model import affinity
from training.experiments.forgetting.rows import Rows


class LightGCN:
    """(e_v + Σ_{u~v} e_u / √(deg_u deg_v)) / 2 in place of e_v; biases stay those of the node.

    Edges are the train rows with a long view; two of one user and video are two edges. A row that goes
    changes the vectors of its neighbours and, through their degrees, of theirs: the spillover.

    Args:
        source_E, target_E: ends of every edge, each edge in both directions.
        weight_E: 1 / √(deg_u deg_v).

    Source: He et al., "LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation",
    SIGIR 2020.
    """

    hops = 1

    def __init__(self, source_E: Tensor, target_E: Tensor, weight_E: Tensor) -> None:
        self.source_E, self.target_E, self.weight_E = source_E, target_E, weight_E

    @classmethod
    def from_rows(cls, rows: Rows) -> Self:
        """Return the model on the graph of the long views among rows."""
        user_N, video_N, _ = rows.take(rows.sign > 0)
        source_E, target_E = torch.cat([user_N, video_N]), torch.cat([video_N, user_N])
        degree_V = torch.bincount(source_E).to(rows.sign.dtype)
        weight_E = (degree_V[source_E] * degree_V[target_E]).rsqrt()
        return cls(source_E, target_E, weight_E)

    def on_rows(self, rows: Rows) -> Self:
        return self.from_rows(rows)

    def reached(self, node_V: Tensor) -> Tensor:
        return node_V.index_fill(0, self.target_E[node_V[self.source_E]], True)

    def within(self, node_V: Tensor, index_V: Tensor) -> Self:
        inside_E = node_V[self.target_E]
        source_E, target_E = self.source_E[inside_E], self.target_E[inside_E]
        return type(self)(index_V[source_E], index_V[target_E], self.weight_E[inside_E])

    def logits(self, table_VD: Tensor, rows: Rows) -> Tensor:
        embedding_VD = table_VD[:, :-1]
        message_ED = self.weight_E[:, None] * embedding_VD[self.source_E]
        mean_VD = torch.index_add(embedding_VD, 0, self.target_E, message_ED) / 2
        return affinity(torch.cat([mean_VD, table_VD[:, -1:]], dim=1), rows)
