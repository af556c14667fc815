"""DML's progress labels: whether a watch reaches the usual one, or one in four, of its kind."""

# Shape suffixes: N rows, F feedback columns, G columns of groups, S strata.

from __future__ import annotations

from typing import Final, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.arrays import I64
from models.errors import BadInput
from models.features import GROUP_COLUMNS
from models.vocabulary import FIRST
from training.data import Interactions
from training.labels._base import duration_s, watch_time_s
from training.strata import DurationGroups, StratifiedQuantiles

View = Literal["ev", "lv"]
Crowd = Literal["d", "u", "v"]

VIEWS: Final[tuple[View, ...]] = ("ev", "lv")
_SHARE: Final[dict[View, float]] = {"ev": 0.50, "lv": 0.75}
"""Quantile of the watch time that is the threshold: effective view, long view."""


class ProgressView(nn.Module):
    """`y = 1[w ≥ t_p]`, t_p the p quantile of training watch times: 0.5 effective view, 0.75 long view.

    `dml_ev` and `dml_lv`: one threshold for everybody.

    Source: DML, CIKM 2023, slides. Thresholds are watch times that somebody really had, so that labels do
    not change under any increasing function of the watch time.

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
        self.view = view
        self.register_buffer("threshold", torch.tensor(torch.nan))

    def fit(self, train: Interactions) -> Self:
        self.threshold = thresholds(self.name, self.view, train, np.zeros(len(train), np.int64), 1)[-1]
        return self

    def forward(self, feedback_NF: Tensor) -> Tensor:
        return (watch_time_s(feedback_NF) >= self.threshold).to(feedback_NF.dtype)


class ProgressViewByDuration(nn.Module):
    """The same with a threshold for each duration group: `dml_ev_d`, `dml_lv_d`.

    Half (a quarter) of every duration group has the label, so that it says nothing of the duration.

    Args:
        view: which of the two.
        groups: duration groups.
        thin: rows below which one takes everybody's threshold.

    Raises:
        BadInput: from `fit`, without training rows, if every video is as long, or if all rows would have
            the label.
    """

    threshold: Tensor
    """`[S + 1]` seconds; the last is everybody's"""

    def __init__(self, view: View, groups: int = 50, *, thin: int = 50) -> None:
        super().__init__()
        self.name = f"dml_{view}_d"
        self.view, self.thin = view, thin
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
        self.threshold = thresholds(self.name, self.view, train, group, self.groups.groups, self.thin)
        return self

    def forward(self, feedback_NF: Tensor) -> Tensor:
        of_row_N = embedding(self.groups(duration_s(feedback_NF)), self.threshold[:, None])[:, 0]
        return (watch_time_s(feedback_NF) >= of_row_N).to(feedback_NF.dtype)


class ProgressViewByCrowd(nn.Module):
    """The same with a threshold for each group of users, `_u`, or of videos, `_v`.

    Users are grouped by their first categorical profile feature, videos by their tag: what the service knows
    of an event, too. Rows that belong to no known group, and groups of few rows, have everybody's threshold.

    Source: DML's y^u and y^v; how the slides group users and videos is not said. Ours.

    Args:
        view: effective or long.
        crowd: `u` or `v`.
        thin: rows below which a group takes everybody's threshold.

    Raises:
        BadInput: from `fit`, without training rows, without any group of `thin` rows, or if all rows would
            have the label.
    """

    threshold: Tensor
    """`[S + 1]` seconds, S of the vocabulary's rows; the last is everybody's"""

    def __init__(self, view: View, crowd: Literal["u", "v"], *, thin: int = 50) -> None:
        super().__init__()
        self.name = f"dml_{view}_{crowd}"
        self.view, self.thin = view, thin
        self.reads = ("user_group" if crowd == "u" else "tag",)
        self.column = GROUP_COLUMNS.index(self.reads[0])
        self.register_buffer("threshold", torch.full((1,), torch.nan))

    def fit(self, train: Interactions) -> Self:
        row = train.groups[:, self.column]
        strata = max(int(row.max(initial=0)) + 1 - FIRST, 1)
        group = np.where(row < FIRST, strata, row - FIRST)
        if len(train) and not (np.bincount(group, minlength=strata + 1)[:strata] >= self.thin).any():
            what = "user group (a categorical profile feature)" if self.name[-1] == "u" else "tag"
            raise BadInput(
                f"{self.name} compares within groups, and no {what} has {self.thin} training rows; "
                f"use dml_{self.view}."
            )
        self.threshold = thresholds(self.name, self.view, train, group, strata, self.thin)
        return self

    def forward(self, feedback_NF: Tensor, groups_NG: Tensor) -> Tensor:
        strata = len(self.threshold) - 1
        group_N = groups_NG[:, self.column] - FIRST
        known_N = (group_N >= 0) & (group_N < strata)
        of_row_N = embedding(torch.where(known_N, group_N, strata), self.threshold[:, None])[:, 0]
        return (watch_time_s(feedback_NF) >= of_row_N).to(feedback_NF.dtype)


def thresholds(name: str, view: View, train: Interactions, group: I64, strata: int, thin: int = 50) -> Tensor:
    """`[S + 1]` seconds that a share of each group's training rows stays below; everybody's where thin.

    Raises:
        BadInput: without training rows, or if none of them stays below its group's threshold.
    """
    table = StratifiedQuantiles(strata, [0.0, _SHARE[view], 1.0], exact=True, thin=thin)
    found_S = table.fit(train.watch_time_s, group).quantile(_SHARE[view])
    if (train.watch_time_s >= found_S.numpy()[group]).all():
        raise BadInput(
            f"{name} is 1 on every training row, because {_SHARE[view]:.0%} of them or more share the "
            "shortest watch time; use a label that sees more than the watch time."
        )
    return found_S
