"""RAD: where a watch stands among those of comparable users, and among those of comparable videos."""

# Shape suffixes: N rows, F feedback columns, G group columns.

from __future__ import annotations

from typing import Final, Self

import numpy as np
import torch
from torch import Tensor

from models.errors import BadInput
from models.features import GROUP_COLUMNS
from models.vocabulary import FIRST
from training.data import Interactions
from training.labels._base import LabelMaker, watch_time_s
from training.strata import StratifiedQuantiles

_POINTS: Final = 101


class RAD(LabelMaker):
    """`y = ½ F̂_u(w) + ½ F̂_v(w)`, quantiles of the watch time among a user group and among a video group.

    The first takes out how long such users watch, the second how long such videos are watched, so that the
    label is the advantage over either reference. Groups are those of `dml_*_u` and `dml_*_v`: the first
    categorical profile feature, and the tag; a row without a known group, or of a group of few rows, is
    ranked among all.

    Source: relative advantage debiasing (RAD) and AlignPxtr (2024, 2025), for quantiles against reference
    groups of users and of items; how the authors group them is not reproduced, and the even weights are ours.

    Args:
        min_rows: rows below which a group is ranked among all rows.

    Raises:
        BadInput: from `fit`, without training rows, or if all watch times are equal.
    """

    group_columns = GROUP_COLUMNS
    name = "rad"
    description = "quantile of the watch time among its user group and among its video group"

    def __init__(self, *, min_rows: int = 50) -> None:
        super().__init__()
        self.references = torch.nn.ModuleDict(
            {column: StratifiedQuantiles(1, _POINTS, min_rows=min_rows) for column in GROUP_COLUMNS}
        )
        self.min_rows = min_rows

    def fit(self, train: Interactions) -> Self:
        if not len(train) or np.ptp(train.watch_time_s) == 0:
            found = f"only watches of {train.watch_time_s[0]:g} s" if len(train) else "none"
            raise BadInput(f"rad needs training rows that differ in watch time, found {found}.")
        for column, name in enumerate(GROUP_COLUMNS):
            row = train.groups[:, column]
            strata = max(int(row.max()) + 1 - FIRST, 1)
            group = np.where(row < FIRST, strata, row - FIRST)
            quantiles = StratifiedQuantiles(strata, _POINTS, min_rows=self.min_rows)
            self.references[name] = quantiles.fit(train.watch_time_s, group)
        return self

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        if group_ids_NG is None:
            raise ValueError("rad compares within groups; give `group_ids_NG`.")
        watched_N, label_N = watch_time_s(feedback_NF), torch.zeros_like(feedback_NF[:, 0])
        for column, quantiles in enumerate(self.references.values()):
            assert isinstance(quantiles, StratifiedQuantiles)
            group_N = group_ids_NG[:, column] - FIRST
            known_N = (group_N >= 0) & (group_N < quantiles.strata)
            rows_N = torch.where(known_N, group_N, quantiles.strata)
            label_N = label_N + quantiles.cdf(watched_N, rows_N) / len(GROUP_COLUMNS)
        return label_N
