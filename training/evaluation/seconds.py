"""Predicted watch times on a test window: errors, order, calibration, and each user's part in them."""

# Shape suffixes: R test rows, U users.

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

import numpy as np
import torch

from models.arrays import F32, F64, I64
from models.metrics import gauc, long_view, mae_s, rmse_s, row_pairs, xauc, xgauc
from training.data import Interactions
from training.evaluation.bootstrap import Measure
from training.strata import DurationGroups
from training.watch_time import QUANTILES

OCTILES: Final = 8
"""Duration groups of the tables, of equal size among the fitted rows."""
ACTIVITY: Final = (0, 1, 5, 20)
"""Where groups of users begin, by their fitted exposures."""
_DECILES: Final = 10


class SecondsEvaluator:
    """Errors, order and calibration of predicted seconds on the test window, and each user's part in them.

    Args:
        log: the exposures.
        fitted: rows that were fitted on; groups of durations and of users come from them.
        rows: `[R]` those of the test window.
    """

    def __init__(self, log: Interactions, fitted: I64, rows: I64) -> None:
        self.user, self.watched, self.duration = log.user[rows], log.watch_time_s[rows], log.duration_s[rows]
        self.long_view = long_view(self.watched, self.duration)
        groups = DurationGroups(OCTILES).fit(log.duration_s[fitted])
        self.octile = groups(torch.from_numpy(self.duration)).numpy()
        exposures = np.bincount(log.user[fitted], minlength=len(log.user_ids))[self.user]
        self.activity = np.searchsorted(np.array(ACTIVITY), exposures, side="right") - 1
        self.users, self.user_index = np.unique(self.user, return_inverse=True)

    @cached_property
    def measures(self) -> dict[str, Measure]:
        """MAE and XAUC: users weighted by their rows, and by their rows' comparable pairs."""
        comparable_R = row_pairs(self.watched, self.watched).comparable
        rows_U = np.bincount(self.user_index).astype(np.float64)
        return {
            "mae_s": Measure("mae_s", rows_U),
            "xauc": Measure("xauc", np.bincount(self.user_index, comparable_R).astype(np.float64)),
        }

    def figures(self, seconds_R: F32 | F64) -> dict[str, float | None]:
        """Return every figure by name: `mae_s`, `rmse_s`, `xauc` and its other conventions, `xgauc`,
        `gauc_long_view`, and `mae_s`, `xauc` of each duration group (`/octile_3`) and activity group."""
        figures: dict[str, float | None] = {
            "mae_s": mae_s(seconds_R, self.watched),
            "rmse_s": rmse_s(seconds_R, self.watched),
            "xauc": xauc(seconds_R, self.watched),
            "xauc_strict": xauc(seconds_R, self.watched, "strict"),
            "xauc_lenient": xauc(seconds_R, self.watched, "lenient"),
            "xgauc": xgauc(self.user, seconds_R, self.watched),
            "gauc_long_view": gauc(self.user, self.long_view, seconds_R),
        }
        for name, group, size in (
            ("octile", self.octile, OCTILES),
            ("activity", self.activity, len(ACTIVITY)),
        ):
            for g in range(size):
                members = group == g
                if members.any():
                    figures[f"mae_s/{name}_{g}"] = mae_s(seconds_R[members], self.watched[members])
                    figures[f"xauc/{name}_{g}"] = xauc(seconds_R[members], self.watched[members])
        return figures

    def values(self, seconds_R: F32 | F64) -> dict[str, F64]:
        """Return `[U]` each user's part in `mae_s` and in `xauc`, so that users can be resampled.

        Of the error its negative: more is better in every figure of the bootstrap.

        XAUC is no mean over users but over pairs. To first order (Hoeffding's projection of a statistic of
        pairs) a user moves it by twice what its rows' own concordance lies above all rows', hence

            v_u = X + 2 (C_u / M_u - X)      C, M: pairs with a row of u that are in order, that count
        """
        error_U = np.bincount(self.user_index, np.abs(seconds_R - self.watched)) / np.bincount(
            self.user_index
        )
        pairs = row_pairs(seconds_R, self.watched)
        right_U, comparable_U = (
            np.bincount(self.user_index, count_R) for count_R in (pairs.right, pairs.comparable)
        )
        whole = right_U.sum() / max(comparable_U.sum(), 1.0)
        own_U = np.divide(
            right_U, comparable_U, out=np.full(len(comparable_U), whole), where=comparable_U > 0
        )
        return {"mae_s": -error_U, "xauc": whole + 2 * (own_U - whole)}

    def by_duration(self, seconds_R: F32 | F64) -> list[dict[str, float]]:
        """Return predicted and actual seconds of each duration group."""
        groups = ((g, np.flatnonzero(self.octile == g)) for g in range(OCTILES))
        return [
            {
                "group": g,
                "from_s": float(self.duration[rows].min()),
                "to_s": float(self.duration[rows].max()),
                "rows": len(rows),
                **self._predicted_and_actual(seconds_R, rows),
            }
            for g, rows in groups
            if len(rows)
        ]

    def by_prediction(self, seconds_R: F32 | F64) -> list[dict[str, float]]:
        """Return predicted and actual seconds of each tenth of the rows, by prediction."""
        tenths = np.array_split(np.argsort(seconds_R, kind="stable"), _DECILES)
        return [self._predicted_and_actual(seconds_R, rows) for rows in tenths if len(rows)]

    def _predicted_and_actual(self, seconds_R: F32 | F64, rows: I64) -> dict[str, float]:
        return {
            "predicted_mean_s": float(seconds_R[rows].mean()),
            "actual_mean_s": float(self.watched[rows].mean()),
            "actual_median_s": float(np.median(self.watched[rows])),
        }

    def calibration(self, quantiles_R3: F32) -> dict[str, Any]:
        """Return how often watch times are at or below each predicted quantile, and between the outer two."""
        below_R3 = self.watched[:, None] <= quantiles_R3
        inside_R = below_R3[:, -1] & (self.watched >= quantiles_R3[:, 0])
        octiles = [below_R3[self.octile == g] for g in range(OCTILES)]
        return {
            "levels": list(QUANTILES),
            "below": below_R3.mean(axis=0).tolist(),
            "coverage": float(inside_R.mean()),
            "below_by_octile": [part.mean(axis=0).tolist() if len(part) else None for part in octiles],
        }
