"""PC: whether the video was watched to its end."""

from __future__ import annotations

from torch import Tensor

from training.labels._base import LabelMaker, duration_s, watch_time_s


class PC(LabelMaker):
    """`y = 1[w ≥ d]`, play completed; a replay counts once.

    Source: LabelCraft's baseline "PC". The slides print `w > d`, which is never true in logs that cut the
    watch time at the duration; this is ≥.
    """

    name = "pc"
    description = "complete play"
    baseline = True

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        return (watch_time_s(feedback_NF) >= duration_s(feedback_NF)).to(feedback_NF.dtype)
