"""A log as DIN reads it: a row with its own history, or a user's candidates on one shared timeline."""

# Shape suffixes: N rows of the log, R rows picked, U users, C candidates (padded), L steps, I id columns.

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.arrays import F32, I64
from models.features import SEQUENCE_ID_COLUMNS
from training.data import Interactions
from training.encoders._din import DinInputs

_VIDEO = SEQUENCE_ID_COLUMNS.index("video_id")
_TAG = SEQUENCE_ID_COLUMNS.index("tag")


class Slates(NamedTuple):
    """The rows of U users, a user a line, oldest first, padded on the right."""

    rows: I64
    """`[U, C]` rows of the log; 0 on padding"""
    mask: Tensor
    """`[U, C]` true where there is a row"""


def slates(log: Interactions, rows: I64, *, more_than: int) -> Slates:
    """Lay rows out user by user, without the users who have `more_than` or fewer.

    Args:
        log: the log.
        rows: `[R]` ascending.
        more_than: k of the slate: with k candidates or fewer there is nothing to choose.
    """
    _, first, count = np.unique(log.user[rows], return_index=True, return_counts=True)
    long = count > more_than
    first, count = first[long], count[long]
    index_C = np.arange(int(count.max(initial=0)))
    mask = index_C < count[:, None]
    index = rows[np.where(mask, first[:, None] + index_C, 0)] if len(rows) else np.zeros(mask.shape, np.int64)
    return Slates(np.where(mask, index, 0), torch.from_numpy(mask))


class DinRows:
    """The columns of a log that DIN needs, and what each row's user did strictly before it.

    The history is that of `Interactions.history`: rows of the same user and millisecond are left out.

    Args:
        log: N exposures.
        edges: inner edges of the duration groups in seconds, ascending, fitted on train.
        length: most steps of history, the newest.
    """

    def __init__(self, log: Interactions, edges: F32, length: int) -> None:
        group = 1 + np.searchsorted(edges, log.duration_s, side="right")  # 0 is padding
        self._ids_NI = torch.from_numpy(np.stack([log.ids[:, _VIDEO], group, log.ids[:, _TAG]], axis=1))
        self._user_N = torch.from_numpy(log.user)
        tie_begins = np.ones(len(log), bool)
        tie_begins[1:] = (np.diff(log.user) != 0) | (np.diff(log.timestamp_ms) != 0)
        self._end_N = np.maximum.accumulate(np.where(tie_begins, np.arange(len(log)), 0))
        self._start_N = np.maximum(log.first_row(), self._end_N - length)
        self.table_rows = {
            "users": len(log.user_ids),
            "videos": int(log.ids[:, _VIDEO].max(initial=1)) + 1,
            "groups": len(edges) + 2,
            "tags": int(log.ids[:, _TAG].max(initial=1)) + 1,
        }
        """Rows of `DIN`'s four tables."""

    def alone(self, rows: I64) -> DinInputs:
        """Return each of `rows` `[R]` as a user of its own with one candidate and its own history."""
        start, end = self._start_N[rows], self._end_N[rows]
        picked = torch.from_numpy(rows)
        return DinInputs(
            self._user_N[picked], self._ids_NI[picked][:, None], self._steps(start, end)[0], None
        )

    def together(self, slates: Slates) -> DinInputs:
        """Return U users of C candidates, on one timeline a user; each candidate sees its own history."""
        mask = slates.mask.numpy()
        start, end = self._start_N[slates.rows], self._end_N[slates.rows]
        # Rows ascend within a user, so the first has the earliest start; padding comes last.
        history_ULI, index_UL = self._steps(start[:, 0], np.where(mask, end, 0).max(axis=1))
        visible = (index_UL[:, None] >= start[..., None]) & (index_UL[:, None] < end[..., None])
        picked_UC = torch.from_numpy(slates.rows)
        return DinInputs(
            self._user_N[picked_UC[:, 0]],
            self._ids_NI[picked_UC] * slates.mask[..., None],
            history_ULI,
            torch.from_numpy(visible & mask[..., None]),
        )

    def _steps(self, start: I64, end: I64) -> tuple[Tensor, I64]:
        """Rows [start, end) of each line, padded on the left: ids `[U, L, 3]` and indices `[U, L]`."""
        steps = int((end - start).max(initial=0))
        index_UL = end[:, None] - steps + np.arange(steps)
        valid_UL = index_UL >= start[:, None]
        ids = self._ids_NI[torch.from_numpy(np.where(valid_UL, index_UL, 0))]
        return ids * torch.from_numpy(valid_UL)[..., None], index_UL
