"""The label as a table one can read: smooth in watch time and duration, one sheet a kind of feedback."""

# Shape suffixes: N rows, F feedback columns, W watch knots, D duration knots, S sheets.

from __future__ import annotations

from enum import IntEnum
from typing import Self

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from models.errors import BadInput
from models.features import signal_columns
from training.data import Interactions
from training.labelcraft.closed_form._config import ClosedFormConfig
from training.labels import LabelMaker, duration_s, explicit, hated, watch_time_s

_TOP = 0.999
"""Quantile of watch times and durations where the table ends."""


class Sheet(IntEnum):
    """Which of the table's sheets an exposure reads."""

    PLAIN = 0
    """No flag, or none that matters here."""
    EXPLICIT = 1
    """A like, follow, comment, forward or positive signal of the log, and no hate."""
    HATE = 2
    """A hate, or a negative signal of the log."""


class LabelSurface(LabelMaker):
    """`y = c(log(1 + w), log(1 + d), sheet)`, bilinear between the knots of a table.

    Args:
        config: the number of knots.
    """

    name = "labelcraft"
    description = "labels learned on the platform's objectives"

    table: Tensor
    """`[W, D, S]` in [0, 1]."""
    watch_end: Tensor
    """log(1 + w) at the last knot; the first is at 0."""
    duration_ends: Tensor
    """`[2]` log(1 + d) at the first and the last knot."""
    positive: Tensor
    """Columns of feedback with the positive signals of the log."""
    negative: Tensor
    """The same of the negative ones."""

    def __init__(self, config: ClosedFormConfig | None = None) -> None:
        super().__init__()
        config = config or ClosedFormConfig()
        shape = (config.watch_knots, config.duration_knots, len(Sheet))
        self.register_buffer("table", torch.zeros(shape))
        self.register_buffer("watch_end", torch.tensor(1.0))
        self.register_buffer("duration_ends", torch.tensor([0.0, 1.0]))
        self.register_buffer("positive", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("negative", torch.zeros(0, dtype=torch.int64))

    def fit(self, train: Interactions) -> Self:
        """Place the knots, and note the signals; the table is learned by `learn_surface`.

        Raises:
            BadInput: nothing was watched, or all durations are equal.
        """
        if not len(train):
            raise BadInput("there are no rows to place the knots of the label's table by.")
        self.watch_end.fill_(float(np.log1p(np.quantile(train.watch_time_s, _TOP))))
        low, high = np.log1p(np.quantile(train.duration_s, [1 - _TOP, _TOP]))
        if not (self.watch_end > 0 and high > low):
            raise BadInput(
                f"labels cannot be learned from these {len(train)} rows: watch times end at "
                f"{float(torch.expm1(self.watch_end)):g} s and durations reach from {np.expm1(low):g} to "
                f"{np.expm1(high):g} s."
            )
        self.duration_ends.copy_(torch.tensor([low, high]))
        signals = train.signals
        self.positive = torch.tensor(signal_columns(signals, signals.positive), dtype=torch.int64)
        self.negative = torch.tensor(signal_columns(signals, signals.negative), dtype=torch.int64)
        return self

    def watch_knots_s(self) -> Tensor:
        """Return the watch times `[W]` of the knots, s."""
        return torch.expm1(torch.linspace(0.0, float(self.watch_end), self.table.shape[0]))

    def forward(self, feedback_NF: Tensor, group_ids_NG: Tensor | None = None) -> Tensor:
        _, durations, sheets = self.table.shape
        cell_N, watch_N, duration_N = self._cell(feedback_NF)
        flat = self.table.reshape(-1)
        low_N = torch.lerp(flat[cell_N], flat[cell_N + sheets], duration_N)
        above_N = cell_N + durations * sheets
        high_N = torch.lerp(flat[above_N], flat[above_N + sheets], duration_N)
        label_N: Tensor = torch.lerp(low_N, high_N, watch_N)
        return label_N

    def basis(self, log: Interactions) -> csr_array:
        """Return `[N, W·D·S]`: labels are its product with the flat table."""
        _, durations, sheets = self.table.shape
        cell_N, watch_N, duration_N = (part.numpy() for part in self._cell(torch.from_numpy(log.feedback)))
        corners = [cell_N, cell_N + sheets, cell_N + durations * sheets, cell_N + (durations + 1) * sheets]
        weights = [
            (1 - watch_N) * (1 - duration_N),
            (1 - watch_N) * duration_N,
            watch_N * (1 - duration_N),
            watch_N * duration_N,
        ]
        row = np.tile(np.arange(len(log)), len(corners))
        entries = (np.concatenate(weights).astype(np.float64), (row, np.concatenate(corners)))
        return csr_array(entries, shape=(len(log), self.table.numel()))

    def _cell(self, feedback_NF: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return `[N]` the flat index of each row's lower corner, and how far it is from there, in knots."""
        watches, durations, sheets = self.table.shape
        low, high = self.duration_ends[0], self.duration_ends[1]
        watch_N = torch.log1p(watch_time_s(feedback_NF)) / self.watch_end
        duration_N = (torch.log1p(duration_s(feedback_NF)) - low) / (high - low)
        watch_N = watch_N.clamp(0.0, 1.0) * (watches - 1)
        duration_N = duration_N.clamp(0.0, 1.0) * (durations - 1)
        i_N = watch_N.floor().clamp(max=watches - 2)
        j_N = duration_N.floor().clamp(max=durations - 2)
        hated_N = _or_any(hated(feedback_NF), feedback_NF, self.negative)
        liked_N = _or_any(explicit(feedback_NF), feedback_NF, self.positive)
        sheet_N = Sheet.HATE * hated_N + Sheet.EXPLICIT * liked_N * (1 - hated_N)
        cell_N = (i_N * durations + j_N) * sheets + sheet_N
        return cell_N.long(), watch_N - i_N, duration_N - j_N


def _or_any(flag_N: Tensor, feedback_NF: Tensor, columns: Tensor) -> Tensor:
    """Return `[N]` 1.0 where the flag or one of the columns is set."""
    if not len(columns):
        return flag_N
    return torch.maximum(flag_N, feedback_NF.index_select(1, columns).sum(1).clamp(max=1.0))
