"""A recommender in closed form: what it would show held-out users, for any table of labels."""

# Shape suffixes: U users, C candidates (padded), R distinct held-out rows, F features, T table entries,
# B tables.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse import csr_array
from torch import Tensor

from models.arrays import F32, F64, I64, Bools
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

    first_day: int
    user: I64
    """`[U]` index of each in the log's `user_ids`."""
    candidates: Candidates
    day: Tensor
    """`[U, C]` of each candidate."""
    response: Tensor
    """`[R, T]` scores of the distinct rows, for a table that is 1 at one entry."""
    gradient: Tensor | None
    """`[R, T]` what takes the place of `response` in the gradient; see `ClosedFormConfig.gradient`."""
    rows: Tensor
    """`[U, C]` index of each candidate among the distinct rows."""

    def scores(self, table: Tensor) -> Tensor:
        """Return the `[U, C]` scores of a table of labels."""
        return self.scores_of_rows(table.reshape(1, -1))[0][self.rows]

    def scores_of_rows(self, table_BT: Tensor) -> Tensor:
        """Return the `[B, R]` scores of the distinct rows for each of several tables."""
        score_BR = table_BT @ self.response.T
        if self.gradient is not None:
            other_BR = table_BT @ self.gradient.T
            score_BR = other_BR + (score_BR - other_BR).detach()
        return score_BR

    def of_users(self, kept_U: Bools) -> RidgeWindow:
        """Return the window with some of its users."""
        kept = torch.from_numpy(np.flatnonzero(kept_U))
        candidates = Candidates(*(column[kept] for column in self.candidates))
        return replace(
            self, user=self.user[kept_U], candidates=candidates, day=self.day[kept], rows=self.rows[kept]
        )

    def as_known_before(self, day: int) -> RidgeWindow:
        """Return the window without what a day and those after it show: who was back on them."""
        returned = self.candidates.returned.masked_fill(self.day + 1 >= day, torch.nan)
        return replace(self, candidates=self.candidates._replace(returned=returned))


class NormalEquations:
    """Z'Z + λI of a ridge regression on rows that come part by part; the first column is a free constant.

    Args:
        columns: of Z.
        ridge: λ.
    """

    def __init__(self, columns: int, ridge: float) -> None:
        self.gram_FF = np.eye(columns) * ridge
        self.gram_FF[0, 0] = 0.0

    def add(self, z_BF: F64, weight_B: F64 | float = 1.0) -> None:
        """Add rows, each as often as it counts."""
        self.gram_FF += (z_BF.T * weight_B) @ z_BF

    def solve(self, moment_FT: F64, kept_F: Bools | None = None) -> F64:
        """Return `[F, T]` the weights of the columns for moments Z'Y; those that are not kept have 0."""
        kept = slice(None) if kept_F is None else np.flatnonzero(kept_F)
        weight_FT = np.zeros_like(moment_FT)
        weight_FT[kept] = cho_solve(cho_factor(self.gram_FF[kept][:, kept]), moment_FT[kept])
        return weight_FT


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
        config: `window_days`, `k`, `ridge` and `gradient` are read.
        seed: of shuffled rows.

    Raises:
        BadInput: the log is too short for one window, or no user has more than `k` exposures in any.
    """
    begins = first_days(day, config.window_days)
    if not len(begins):
        raise BadInput(
            f"labels cannot be learned from {len(np.unique(day))} days: a window of {config.window_days} "
            "days needs as many before it; take a longer log, or `window_days=1`."
        )
    early = log.take(np.flatnonzero(day < begins[0]))
    scales = Scale(name="watch time").fit(early.watch_time_s), Scale(name="duration").fit(early.duration_s)
    feature_NF = lagged_features(log, day, begins[0] + config.window_days)
    basis, random = surface.basis(log), np.random.default_rng(seed)
    columns = with_products(feature_NF[:1]).shape[1]
    normal = NormalEquations(columns, config.ridge)
    moment_FT, shuffled_FT = (np.zeros((columns, basis.shape[1])) for _ in range(2))
    windows, fitted_to = [], 0
    for first in begins:
        known = np.flatnonzero((day >= fitted_to) & (day < first))
        fitted_to = first
        for z_BF, basis_BT in _chunks(feature_NF, basis, known):
            normal.add(z_BF)
            moment_FT += (basis_BT.T @ z_BF).T
            if config.gradient == "shuffled":
                shuffled_FT += (basis_BT[random.permutation(len(z_BF))].T @ z_BF).T
        rows = np.flatnonzero((day >= first) & (day < first + config.window_days))
        users = slates(log, rows, more_than=config.k)
        if not len(users.rows):
            continue
        distinct, index_UC = np.unique(users.rows, return_inverse=True)
        z_RF = with_products(feature_NF[distinct])
        response_RT = _float32(z_RF @ normal.solve(moment_FT))
        gradient_RT = None
        if config.gradient == "one_step":
            gradient_RT = _as_long_as(response_RT, _float32(z_RF @ moment_FT))
        elif config.gradient == "shuffled":
            gradient_RT = _float32(z_RF @ normal.solve(shuffled_FT))
        windows.append(
            RidgeWindow(
                first,
                log.user[users.rows[:, 0]],
                candidates_of(log, users, *scales, day),
                torch.from_numpy(day[users.rows]),
                response_RT,
                gradient_RT,
                torch.from_numpy(index_UC.reshape(users.rows.shape)),
            )
        )
    if not windows:
        raise BadInput(
            f"no user has more than k = {config.k} exposures in any {config.window_days} days, so no slate "
            "can be chosen; lower k or take wider windows."
        )
    return windows


def first_days(day: I64, window_days: int) -> range:
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


def _float32(array: F64) -> Tensor:
    return torch.from_numpy(array.astype(np.float32))


def _as_long_as(response_RT: Tensor, step_RT: Tensor) -> Tensor:
    """Return a step of gradient descent at the rate with which it moves the scores as far as the solution."""
    rate = float(response_RT.norm()) / max(float(step_RT.norm()), 1e-30)
    return rate * step_RT
