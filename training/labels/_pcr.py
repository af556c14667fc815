"""PCR: which share of the video was watched."""

from __future__ import annotations

from torch import Tensor

from training.labels._base import LabelMaker, duration_s, watch_time_s


class PCR(LabelMaker):
    """`y = min(w / d, 1)`, the play completion rate; a replay is a whole play.

    Source: LabelCraft's baseline "PCR"; bounded because its loss sits behind a sigmoid.
    """

    name = "pcr"
    description = "completion rate, at most 1"
    baseline = True

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        return (watch_time_s(feedback_NF) / duration_s(feedback_NF)).clamp(0.0, 1.0)
