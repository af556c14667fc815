"""A recommender in closed form: what it would show held-out users, for any table of labels."""

# Shape suffixes: U users, C candidates (padded), R distinct held-out rows, F features, T table entries.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from models.arrays import F32, F64, I64
from models.errors import BadInput
from training.data import Interactions
from training.encoders import slates
from training.labelcraft._objectives import Candidates, candidates_of
from training.labelcraft.closed_form._config import ClosedFormConfig
from training.labelcraft.closed_form._lagged_features import lagged_features, with_products
from training.labelcraft.closed_form._surface import LabelSurface
from training.labels import Scale

_CHUNK = 16_384


@dataclass(frozen=True)
class RidgeWindow:
    """The users of some days, scored by the ridge regression that was fitted on all days before."""

    candidates: Candidates
    response: Tensor
    """`[R, T]` scores of the distinct rows, for a table that is 1 at one entry."""
    shuffled: Tensor
    """`[R, T]` the same, had each training row the label of another."""
    rows: Tensor
    """`[U, C]` index of each candidate among the distinct rows."""

    def scores(self, table: Tensor, *, shuffle: bool = False) -> Tensor:
        """Return `[U, C]` scores.

        Args:
            table: the labels' table.
            shuffle: give the scores the gradient of `shuffled`.
        """
        score_R = self.response @ table.reshape(-1)
        if shuffle:
            other_R = self.shuffled @ table.reshape(-1)
            score_R = other_R + (score_R - other_R).detach()
        return score_R[self.rows]


def ridge_windows(
    log: Interactions,
    day: I64,
    surface: LabelSurface,
    config: ClosedFormConfig,
    *,
    seed: int = 0,
) -> list[RidgeWindow]:
    """Return the windows of a log, oldest first: whole ones from its end.

    Args:
        log: N exposures.
        day: `[N]` the day of each.
        surface: whose knots are placed.
        config: `window_days`, `k` and `ridge` are read.
        seed: of the shuffled labels.

    Raises:
        BadInput: the log is too short for one window, or no user has more than `k` exposures in any.
    """
    first_days = _first_days(day, config.window_days)
    if not len(first_days):
        raise BadInput(
            f"labels cannot be learned from {len(np.unique(day))} days: a window of {config.window_days} "
            "days needs as many before it."
        )
    early = log.take(np.flatnonzero(day < first_days[0]))
    scales = Scale(name="watch time").fit(early.watch_time_s), Scale(name="duration").fit(early.duration_s)
    feature_NF = lagged_features(log, day, first_days[0] + config.window_days)
    basis, random = surface.basis(log), np.random.default_rng(seed)
    normal: F64 = np.zeros((0, 0))
    moment = shuffled = normal
    windows, fitted_to = [], 0
    for first in first_days:
        known = np.flatnonzero((day >= fitted_to) & (day < first))
        fitted_to = first
        for z_BF, basis_BT in _chunks(feature_NF, basis, known):
            if not normal.size:
                normal = np.eye(z_BF.shape[1]) * config.ridge
                normal[0, 0] = 0.0  # the constant is free
                moment = np.zeros((z_BF.shape[1], basis.shape[1]))
                shuffled = moment.copy()
            normal += z_BF.T @ z_BF
            moment += (basis_BT.T @ z_BF).T
            shuffled += (basis_BT[random.permutation(len(z_BF))].T @ z_BF).T
        rows = np.flatnonzero((day >= first) & (day < first + config.window_days))
        users = slates(log, rows, more_than=config.k)
        if not len(users.rows):
            continue
        distinct, index_UC = np.unique(users.rows, return_inverse=True)
        z_RF = with_products(feature_NF[distinct])
        weights_FT = np.linalg.solve(normal, np.concatenate([moment, shuffled], axis=1))
        response_RT, shuffled_RT = (
            torch.from_numpy((z_RF @ half).astype(np.float32)) for half in np.split(weights_FT, 2, axis=1)
        )
        row_UC = torch.from_numpy(index_UC.reshape(users.rows.shape))
        windows.append(RidgeWindow(candidates_of(log, users, *scales), response_RT, shuffled_RT, row_UC))
    if not windows:
        raise BadInput(
            f"no user has more than k = {config.k} exposures in any {config.window_days} days, so no slate "
            "can be chosen; lower k or take wider windows."
        )
    return windows


def _first_days(day: I64, window_days: int) -> range:
    """Return the first day of each window."""
    if not len(day):
        return range(0)
    end = int(day.max()) + 1
    count = max(0, (end - int(day.min())) // window_days - 1)
    return range(end - count * window_days, end, window_days)


def _chunks(feature_NF: F32, basis: csr_array, rows: I64) -> Iterator[tuple[F64, csr_array]]:
    """Products of features are too many to be held for all rows."""
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        yield with_products(feature_NF[part]), basis[part]
