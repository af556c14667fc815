"""DML's watch-time percentile rank, fine where it matters."""

# Shape suffixes: N rows, F feedback columns, S duration groups.

from __future__ import annotations

from typing import Self

import numpy as np
import torch
from torch import Tensor

from models.errors import BadInput
from training.data import Interactions
from training.labels._base import LabelMaker, duration_s, watch_time_s
from training.strata import DurationGroups, StratifiedQuantiles, falling_masses


class WPR(LabelMaker):
    """`y = Σ_{m ≤ n} q_m`: the cumulative mass of the group n that the watch time falls into.

    Training rows in order of their watch time are cut into groups of masses q_1 ≥ q_2 ≥ … ≥ q_n, q_n ∝ ρⁿ:
    coarse among the many short watches, fine at the top. Equal watch times share a group, the highest that
    one of them reaches. With `debias` this happens within each duration group, which takes out of the label
    what the duration alone explains; a small group is ranked among all rows.

    Source: DML, CIKM 2023, slides: "fine-grained imbalance, coarse balance"; neither the number of groups
    nor the masses are published, so 100 and ρ = 0.97 are ours.

    Args:
        debias: rank within duration groups.
        steps: groups of watch time.
        rho: ρ in (0, 1]; 1 makes equal masses.
        groups: duration groups, with `debias`.
        min_rows: rows below which one of them is ranked among all rows.

    Raises:
        BadInput: from `fit`, without training rows, without two watch times that differ, or to debias by a
            duration that never differs.
        ValueError: ρ outside (0, 1], or so small that a float32 does not separate the last groups.
    """

    def __init__(
        self,
        *,
        debias: bool = False,
        steps: int = 100,
        rho: float = 0.97,
        groups: int = 50,
        min_rows: int = 50,
    ) -> None:
        super().__init__()
        self.name = "dml_wpr_d" if debias else "dml_wpr"
        self.description = (
            f"percentile rank of the watch time{' within its duration group' if debias else ''}"
        )
        self.debias = debias
        self.groups = DurationGroups(groups if debias else 1)
        self.quantiles = StratifiedQuantiles(
            self.groups.groups,
            falling_masses(steps, rho),
            exact=True,
            min_rows=min_rows,
        )

    def fit(self, train: Interactions) -> Self:
        if not len(train):
            raise BadInput(f"{self.name} needs training rows to rank by, found none; check the dates.")
        if np.ptp(train.watch_time_s) == 0:
            raise BadInput(
                f"{self.name} ranks watch times, and every training row has the same, "
                f"{train.watch_time_s[0]:g} s; use a label that sees more."
            )
        if self.debias and np.ptp(train.duration_s) == 0:
            raise BadInput(
                f"{self.name} ranks within duration groups, and every video is {train.duration_s[0]:g} s "
                "long; use dml_wpr."
            )
        group = self.groups.fit(train.duration_s)(torch.from_numpy(train.duration_s))
        self.quantiles.fit(train.watch_time_s, group.numpy())
        return self

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        return self.quantiles.rank(watch_time_s(feedback_NF), self.groups(duration_s(feedback_NF)))

    def seconds(self, label_N: Tensor, duration_N: Tensor) -> Tensor:
        """`[N]` labels and durations -> `[N]` seconds, linear between the bounds of a group."""
        return self.quantiles.inverse(label_N, self.groups(duration_N))
