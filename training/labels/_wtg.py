"""WTG: watch-time gain, how far a watch lies above those of videos just as long."""

# Shape suffixes: N rows, F feedback columns.

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor

from models.arrays import F32
from models.errors import BadInput
from training.data import Interactions
from training.labels._base import LabelMaker, duration_s, watch_time_s
from training.strata import DurationGroups, StratifiedMoments


class WTG(LabelMaker):
    """`y = Φ((w̄ - μ_b) / σ_b)`, w̄ = min(w, d), over the exposures of videos as long to the second (b).

    A second with fewer than two rows takes the moments of its duration group, a small group those of
    all rows; where nothing varies the gain is 0 and the label 0.5.

    Source: Zheng et al., "DVR: Micro-Video Recommendation Optimizing Watch-Time-Gain under Duration Bias",
    MM 2022; Φ to bring the gain to [0, 1] as in the code of D2Co and CWM. Ours: the back-off (there such
    seconds have gain 0), and moments of train alone (there: of all rows, the test's included).

    Args:
        seconds: durations from this on share one bucket.
        groups: duration groups to back off to.
        min_rows: rows below which a group backs off in turn.

    Raises:
        BadInput: from `fit`, without training rows.
    """

    name = "wtg"
    description = "watch-time gain: Φ of the watch time standardised within its duration"

    def __init__(self, seconds: int = 600, groups: int = 50, *, min_rows: int = 50) -> None:
        super().__init__()
        self.by_second = StratifiedMoments(seconds + 1, min_rows=2)
        self.groups = DurationGroups(groups)
        self.by_group = StratifiedMoments(groups, min_rows=min_rows)

    def fit(self, train: Interactions) -> Self:
        if not len(train):
            raise BadInput("WTG needs training rows to read means off, found none; check the dates.")
        played: F32 = np.minimum(train.watch_time_s, train.duration_s)
        duration_N = torch.from_numpy(train.duration_s)
        self.by_second.fit(played, self._second(duration_N).numpy())
        self.by_group.fit(played, self.groups.fit(train.duration_s)(duration_N).numpy())
        return self

    def gain(self, feedback_NF: Tensor) -> Tensor:
        """`[N]` the gain itself, in deviations: mean 0 and deviation 1 in every second of train."""
        duration_N = duration_s(feedback_NF)
        played_N = torch.minimum(watch_time_s(feedback_NF), duration_N)
        second_N = self._second(duration_N)
        return torch.where(
            self.by_second.thick(second_N),
            self.by_second.z(played_N, second_N),
            self.by_group.z(played_N, self.groups(duration_N)),
        )

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        # erf, because the ONNX exporter has no Φ.
        return 0.5 * (1.0 + torch.erf(self.gain(feedback_NF) / 2**0.5))

    def _second(self, duration_N: Tensor) -> Tensor:
        return duration_N.clamp(0, self.by_second.strata - 1).long()
