"""DML's progress labels: whether a watch reaches the usual one, or one in four, of comparable exposures."""

# Shape suffixes: N rows, F feedback columns, G group columns, S strata.

from __future__ import annotations

from typing import Final, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding

from models.arrays import I64
from models.errors import BadInput
from models.features import GROUP_COLUMNS
from models.vocabulary import FIRST
from training.data import Interactions
from training.labels._base import LabelMaker, duration_s, watch_time_s
from training.strata import DurationGroups, StratifiedQuantiles

View = Literal["ev", "lv"]
Group = Literal["user_group", "tag"]

VIEWS: Final[tuple[View, ...]] = ("ev", "lv")
_SHARE: Final[dict[View, float]] = {"ev": 0.50, "lv": 0.75}
"""Quantile of the watch time that is the threshold: effective view, long view."""
_PHRASE: Final[dict[View, str]] = {
    "ev": "effective view: at the median",
    "lv": "long view: at the upper quartile",
}


class ProgressView(LabelMaker):
    """`y = 1[w ≥ t_p]`, t_p the p quantile of training watch times: 0.5 effective view, 0.75 long view.

    `dml_ev` and `dml_lv`: one threshold for all rows.

    Source: DML, CIKM 2023, slides. Thresholds are watch times that occur in the log, so that labels do not
    change under any increasing function of the watch time.

    Args:
        view: which of the two.

    Raises:
        BadInput: from `fit`, without training rows, or if all of them would have the label.
    """

    threshold: Tensor
    """Seconds, a scalar"""

    def __init__(self, view: View) -> None:
        super().__init__()
        self.name = f"dml_{view}"
        self.description = f"{_PHRASE[view]} of the watch time"
        self.view = view
        self.register_buffer("threshold", torch.tensor(torch.nan))

    def fit(self, train: Interactions) -> Self:
        self.threshold = thresholds(self.name, self.view, train, np.zeros(len(train), np.int64), 1)[-1]
        return self

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        return (watch_time_s(feedback_NF) >= self.threshold).to(feedback_NF.dtype)


class ProgressViewByDuration(LabelMaker):
    """`y = 1[w ≥ t_p(g)]` with a threshold for each duration group g: `dml_ev_d`, `dml_lv_d`.

    Half (a quarter) of every duration group has the label, so that it does not depend on the duration.

    Args:
        view: effective or long.
        groups: duration groups.
        min_rows: rows below which a group takes the threshold of all rows.

    Raises:
        BadInput: from `fit`, without training rows, if every video is as long, or if all rows would have
            the label.
    """

    threshold: Tensor
    """`[S + 1]` seconds; the last is that of all rows"""

    def __init__(self, view: View, groups: int = 50, *, min_rows: int = 50) -> None:
        super().__init__()
        self.name = f"dml_{view}_d"
        self.description = f"{_PHRASE[view]} of its duration group"
        self.view, self.min_rows = view, min_rows
        self.groups = DurationGroups(groups)
        self.register_buffer("threshold", torch.full((groups + 1,), torch.nan))

    def fit(self, train: Interactions) -> Self:
        if len(train) and np.ptp(train.duration_s) == 0:
            raise BadInput(
                f"{self.name} compares within duration groups, and every video is "
                f"{train.duration_s[0]:g} s long; use dml_{self.view}."
            )
        duration = torch.from_numpy(train.duration_s)
        group = (self.groups.fit(train.duration_s)(duration) if len(train) else duration.long()).numpy()
        self.threshold = thresholds(self.name, self.view, train, group, self.groups.groups, self.min_rows)
        return self

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        group_N = self.groups(duration_s(feedback_NF))
        return (watch_time_s(feedback_NF) >= _threshold_of(self.threshold, group_N)).to(feedback_NF.dtype)


class ProgressViewByGroup(LabelMaker):
    """`y = 1[w ≥ t_p(g)]` with a threshold for each group g of users, `_u`, or of videos, `_v`.

    Users are grouped by their first categorical profile feature, videos by their tag: what the service knows
    of an event, too. Rows without a known group, and groups of few rows, have the threshold of all rows.

    Source: DML's y^u and y^v; how the slides group users and videos is not published. Ours.

    Args:
        view: effective or long.
        group: the column of `GROUP_COLUMNS`.
        min_rows: rows below which a group takes the threshold of all rows.

    Raises:
        BadInput: from `fit`, without training rows, without any group of `min_rows` rows, or if all rows
            would have the label.
    """

    threshold: Tensor
    """`[S + 1]` seconds, S of the vocabulary's rows; the last is that of all rows"""

    def __init__(self, view: View, group: Group, *, min_rows: int = 50) -> None:
        super().__init__()
        self.by_user = group == "user_group"
        self.name = f"dml_{view}_{'u' if self.by_user else 'v'}"
        self.description = f"{_PHRASE[view]} of its {'user' if self.by_user else 'video'} group"
        self.view, self.min_rows = view, min_rows
        self.group_columns = (group,)
        self.column = GROUP_COLUMNS.index(group)
        self.register_buffer("threshold", torch.full((1,), torch.nan))

    def fit(self, train: Interactions) -> Self:
        row = train.groups[:, self.column]
        strata = max(int(row.max(initial=0)) + 1 - FIRST, 1)
        group = np.where(row < FIRST, strata, row - FIRST)
        if len(train) and not (np.bincount(group, minlength=strata + 1)[:strata] >= self.min_rows).any():
            kind = "user group (a categorical profile feature)" if self.by_user else "tag"
            raise BadInput(
                f"{self.name} compares within groups, and no {kind} has {self.min_rows} training rows; "
                f"use dml_{self.view}."
            )
        self.threshold = thresholds(self.name, self.view, train, group, strata, self.min_rows)
        return self

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        if group_ids_NG is None:
            raise ValueError(f"{self.name} compares within groups; give `group_ids_NG`.")
        strata = len(self.threshold) - 1
        group_N = group_ids_NG[:, self.column] - FIRST
        known_N = (group_N >= 0) & (group_N < strata)
        threshold_N = _threshold_of(self.threshold, torch.where(known_N, group_N, strata))
        return (watch_time_s(feedback_NF) >= threshold_N).to(feedback_NF.dtype)


def _threshold_of(threshold_S: Tensor, group_N: Tensor) -> Tensor:
    return embedding(group_N, threshold_S[:, None])[:, 0]


def thresholds(
    name: str, view: View, train: Interactions, group: I64, strata: int, min_rows: int = 50
) -> Tensor:
    """Return `[S + 1]` seconds that a share of each group's training rows stays below.

    A small group takes the threshold of all rows, which is the last entry.

    Raises:
        BadInput: without training rows, or if none of them stays below its group's threshold.
    """
    table = StratifiedQuantiles(strata, [0.0, _SHARE[view], 1.0], exact=True, min_rows=min_rows)
    threshold_S = table.fit(train.watch_time_s, group).quantile(_SHARE[view])
    if (train.watch_time_s >= threshold_S.numpy()[group]).all():
        raise BadInput(
            f"{name} is 1 on every training row, because {_SHARE[view]:.0%} of them or more share the "
            "shortest watch time; use a label that depends on more than the watch time."
        )
    return threshold_S
