"""What a model of ids is: logits of long views from one embedding table of users and videos."""

# Shape suffixes: N rows, V nodes, D embedding and bias.

from __future__ import annotations

from typing import Protocol, Self

from torch import Tensor
from torch.nn.functional import softplus

from training.experiments.forgetting.rows import Rows


class IdModel(Protocol):
    """A model whose only parameters are a table `[V, D]`, the last column a bias."""

    hops: int
    """How far embeddings spread along the edges of the long views."""

    def on_rows(self, rows: Rows) -> Self:
        """Return the model with the graph of other train rows."""
        ...

    def reached(self, node_V: Tensor) -> Tensor:
        """Return the nodes whose vectors depend on the embeddings of the given ones, bool `[V]`."""
        ...

    def within(self, node_V: Tensor, index_V: Tensor) -> Self:
        """Return the model for rows of some nodes alone, on a table of the rows that these depend on.

        Args:
            node_V: the nodes, bool.
            index_V: where each node they depend on, `reached(node_V)`, lies in that table.
        """
        ...

    def logits(self, table_VD: Tensor, rows: Rows) -> Tensor:
        """Return the logit of a long view of each row, `[N]`."""
        ...


def affinity(vector_VD: Tensor, rows: Rows) -> Tensor:
    """Return ⟨user, video⟩ and both biases, `[N]`."""
    user_ND, video_ND = vector_VD[rows.user], vector_VD[rows.video]
    return (user_ND[:, :-1] * video_ND[:, :-1]).sum(1) + user_ND[:, -1] + video_ND[:, -1]


def total_loss(model: IdModel, table_VD: Tensor, rows: Rows) -> Tensor:
    """Return the cross entropy, summed over rows."""
    return softplus(-rows.sign * model.logits(table_VD, rows)).sum()
