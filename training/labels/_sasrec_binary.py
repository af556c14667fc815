"""SASRec4SV's binary label: at least half watched."""

# Shape suffixes: N rows, F feedback columns.

from __future__ import annotations

from torch import Tensor

from training.labels._base import LabelMaker, duration_s, watch_time_s


class SASRecBinary(LabelMaker):
    """`y = 1[w / d > 0.5]`.

    Source: SASRec4SV. Its notebook stores ratios as integers first, so that there the label means one whole
    play; this is what its report says.
    """

    name = "sasrec_binary"
    description = "watch ratio above one half"

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        return (watch_time_s(feedback_NF) > 0.5 * duration_s(feedback_NF)).to(feedback_NF.dtype)
