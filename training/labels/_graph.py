"""Several label makers as the one module that `labeler.onnx` is exported from."""

# Shape suffixes: N rows.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

from torch import Tensor, nn

from models.features import Array
from training.labels._base import LabelMaker


class LabelMakers(nn.Module):
    """Feedback, and group ids where a label depends on them -> one `[N]` label each."""

    def __init__(self, makers: Sequence[LabelMaker]) -> None:
        super().__init__()
        self.makers = nn.ModuleList(makers)
        self.names = tuple(maker.name for maker in makers)
        self.by_user = tuple(maker.name for maker in makers if "user_group" in maker.group_columns)
        self.grouped = any(maker.group_columns for maker in makers)

    def forward(self, feedback: Tensor, group_ids: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return `[N]` labels, in the order of `names`; arguments as in `LabelMaker.forward`."""
        return tuple(maker(feedback, group_ids) for maker in self)

    def __iter__(self) -> Iterator[LabelMaker]:
        return iter(cast(Sequence[LabelMaker], self.makers))

    def inputs(self, feedback: Array, group_ids: Array) -> dict[str, Array]:
        """Return the inputs of the graph, by name."""
        return {"feedback": feedback} | ({"group_ids": group_ids} if self.grouped else {})
