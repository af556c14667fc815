"""SASRec4SV's ratio label: how often the video was watched through."""

# Shape suffixes: N rows, F feedback columns.

from __future__ import annotations

from torch import Tensor

from training.labels._base import LabelMaker, duration_s, watch_time_s


class SASRecRatio(LabelMaker):
    """`y = r / (1 + r)`, r = w / d unbounded: a whole play is 0.5, every replay counts on.

    `ratio` is the inverse.

    Source: SASRec4SV regresses r itself. Ours: r / (1 + r), because labels here lie in [0, 1] and r does
    not; and r as it is, where the notebook rounds it down to an integer.
    """

    name = "sasrec_ratio"
    description = "watch ratio, replays included"

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        watched_N = watch_time_s(feedback_NF)
        return watched_N / (watched_N + duration_s(feedback_NF))

    def ratio(self, label_N: Tensor) -> Tensor:
        """`[N]` labels below 1 -> `[N]` r = y / (1 - y)."""
        return label_N / (1.0 - label_N)
