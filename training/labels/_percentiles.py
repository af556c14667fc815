"""Where a label stands among those of the training rows, for all label makers at once."""

# Shape suffixes: T label makers, N rows, P parts of [0, 1], C cells, R rows of training.

from __future__ import annotations

from typing import Final, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.arrays import F32, I64

PARTS: Final = 128
CELLS: Final = 512
"""The tables of 22 label makers take 200 kB."""
TIE: Final = 1e-6
"""Labels this far from a knot get its percentile: another runtime rounds a label of a plateau otherwise."""


class Percentiles(nn.Module):
    """The share of training rows with a lower label, ties counted half, for each of T label makers.

        F(y) = #{y_i < y} / n + #{y_i = y} / 2n

    F is tabulated and interpolated linearly. [0, 1] is cut into PARTS equal parts, and each part into cells,
    the more the more training rows are in it: most learned labels lie close together. F has a knot in each
    cell: at the largest plateau there (a label of at least 1 / CELLS of the rows), else at the label nearest
    to its centre. It is exact at the knots, so for both labels of a binary label maker, and between two knots
    off by less than the share of rows there. It never falls, and is level outside of them.

    Both tables are read by index: ONNX has no search, and to compare each label with 64 quantiles takes twice
    as long. Until it is fitted, F(y) = y.

    Args:
        makers: T.
    """

    first: Tensor
    """`[T, P + 1]` number of a part's first cell"""
    knot: Tensor
    """`[T, C]` a label in each cell, rising"""
    share: Tensor
    """`[T, C]` F at the knots"""

    def __init__(self, makers: int) -> None:
        super().__init__()
        first_P = torch.arange(PARTS + 1) * (CELLS // PARTS)
        centre_C = (torch.arange(CELLS) + 0.5) / CELLS
        self.register_buffer("first", first_P.repeat(makers, 1))
        self.register_buffer("knot", centre_C.repeat(makers, 1))
        self.register_buffer("share", centre_C.repeat(makers, 1))

    def fit(self, label_TR: F32) -> Self:
        """Read the tables off the labels `[T, R]` of R > 0 training rows."""
        label_TR = label_TR.clip(0.0, 1.0)
        part_TR = np.minimum(label_TR * np.float32(PARTS), PARTS - 1).astype(np.int64)
        rows_TP = np.stack([np.bincount(part_R, minlength=PARTS + 1) for part_R in part_TR + 1])
        more_TP = np.floor(rows_TP.cumsum(1) / rows_TP.sum(1, keepdims=True) * (CELLS - PARTS))
        self.first.copy_(torch.from_numpy(more_TP.astype(np.int64) + np.arange(PARTS + 1)))
        cell_TR = self._cell(torch.from_numpy(label_TR)).numpy()
        for maker, first_P in enumerate(self.first.numpy()):
            knot_C, share_C = _knots(first_P, label_TR[maker], cell_TR[maker])
            self.knot[maker] = torch.from_numpy(knot_C)
            self.share[maker] = torch.from_numpy(share_C)
        return self

    def forward(self, label_TN: Tensor) -> Tensor:
        """`[T, N]` labels, clipped to [0, 1] -> `[N, T]` shares in [0, 1]; NaN for NaN."""
        label_TN = label_TN.clamp(0.0, 1.0)
        first_T1 = torch.arange(len(self.knot))[:, None]
        knot_TN, share_TN, before_TN, after_TN = embedding(
            self._cell(label_TN) + first_T1 * CELLS, self._cells()
        ).unbind(2)
        off_TN = label_TN - knot_TN
        off_TN = off_TN - off_TN.clamp(-TIE, TIE)
        slope_TN = torch.where(off_TN < 0, before_TN, after_TN)
        return (share_TN + off_TN * slope_TN).clamp(0.0, 1.0).T

    def _cell(self, label_TN: Tensor) -> Tensor:
        """`[T, N]` labels in [0, 1] -> the numbers of their cells."""
        # Clipped as an index as well: NaN has none.
        part_TN = (label_TN * PARTS).to(torch.int64).clamp(0, PARTS - 1)
        first_T1 = torch.arange(len(self.knot))[:, None]
        offset_TN, scale_TN = embedding(part_TN + first_T1 * PARTS, self._parts()).unbind(2)
        return (label_TN * scale_TN + offset_TN).to(torch.int64).clamp(0, CELLS - 1)

    def _parts(self) -> Tensor:
        """`[T·P, 2]` of each part o and s: the cell of a label y in it is o + s·y, rounded down."""
        first_TP, cells_TP = self.first[:, :-1], self.first.diff()
        offset_TP = first_TP - cells_TP * torch.arange(PARTS)
        return torch.stack([offset_TP, cells_TP * PARTS], dim=2).flatten(0, 1).to(torch.float32)

    def _cells(self) -> Tensor:
        """`[T·C, 4]` of each cell its knot, F there, and the slopes of F before and after."""
        slope = self.share.diff() / self.knot.diff()
        level = torch.zeros_like(slope[:, :1])
        columns = (self.knot, self.share, torch.cat([level, slope], 1), torch.cat([slope, level], 1))
        return torch.stack(columns, dim=2).flatten(0, 1)


def _knots(first_P: I64, label_R: F32, cell_R: I64) -> tuple[F32, F32]:
    """`[C]` knots of one label maker, and F there."""
    label, row, rows = np.unique(label_R, return_index=True, return_counts=True)
    cell, below = cell_R[row], np.cumsum(rows) - rows
    number_C = np.arange(CELLS)
    part_C = np.searchsorted(first_P, number_C, side="right") - 1
    within_C = (number_C - first_P[part_C] + 0.5) / np.diff(first_P)[part_C]
    knot_C = ((part_C + within_C) / PARTS).astype(np.float32)
    # Where there is no label, F is the share of rows in the cells before.
    below_C = np.append(below, len(label_R))[np.searchsorted(cell, number_C)].astype(np.float64)
    # The last of each cell stays: its largest plateau, else the label nearest to the centre, so that two
    # knots are not so close by chance that another rounding of a label shows.
    plateau = rows * CELLS // len(label_R)
    order = np.lexsort((-abs(label - knot_C[cell]), plateau, cell))
    knot_C[cell[order]] = label[order]
    below_C[cell[order]] = (below + rows / 2)[order]
    return knot_C, (below_C / len(label_R)).astype(np.float32)
