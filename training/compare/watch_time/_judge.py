"""Predicted seconds against what was watched: figures, users' parts in them, what pictures show."""

# Shape suffixes: R judged rows, U users, G groups.

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from models.arrays import F32, F64, I64
from models.metrics import gauc, long_view, mae_s, rmse_s, xauc, xgauc
from training.compare._report import Measure
from training.data import Interactions
from training.evaluation.concordance import concordance
from training.strata import DurationGroups
from training.watch_time import QUANTILES

OCTILES: Final = 8
"""Duration groups of the tables, of equal size among the training rows."""
ACTIVITY: Final = (0, 1, 5, 20)
"""Where groups of users begin, by their exposures in training."""
_DECILES: Final = 10


class Judge:
    """The rows that methods are judged on, and the figures of predictions on them.

    Args:
        log: the log.
        known: rows that were learned from: groups of durations and of users are read off them.
        rows: `[R]` judged rows.
    """

    def __init__(self, log: Interactions, known: I64, rows: I64) -> None:
        self.rows = rows
        self.user, self.watched, self.duration = log.user[rows], log.watch_time_s[rows], log.duration_s[rows]
        self.long_view = long_view(self.watched, self.duration)
        groups = DurationGroups(OCTILES).fit(log.duration_s[known])
        self.octile = groups(torch.from_numpy(self.duration)).numpy()
        seen = np.bincount(log.user[known], minlength=len(log.user_ids))[self.user]
        self.activity = np.searchsorted(np.array(ACTIVITY), seen, side="right") - 1
        self.users, self.place = np.unique(self.user, return_inverse=True)
        self._count_U = np.bincount(self.place).astype(np.float64)

    def figures(self, seconds_R: F32 | F64) -> dict[str, float | None]:
        """Every figure by name: `mae_s`, `rmse_s`, `xauc` and its other conventions, `xgauc`,
        `gauc_long_view`, and `mae_s`, `xauc` of each duration group (`/octile_3`) and activity group."""
        found: dict[str, float | None] = {
            "mae_s": mae_s(seconds_R, self.watched),
            "rmse_s": rmse_s(seconds_R, self.watched),
            "xauc": xauc(seconds_R, self.watched),
            "xauc_strict": xauc(seconds_R, self.watched, "strict"),
            "xauc_lenient": xauc(seconds_R, self.watched, "lenient"),
            "xgauc": xgauc(self.user, seconds_R, self.watched),
            "gauc_long_view": gauc(self.user, self.long_view, seconds_R),
        }
        for name, group, groups in (
            ("octile", self.octile, OCTILES),
            ("activity", self.activity, len(ACTIVITY)),
        ):
            for g in range(groups):
                mine = group == g
                if mine.any():
                    found[f"mae_s/{name}_{g}"] = mae_s(seconds_R[mine], self.watched[mine])
                    found[f"xauc/{name}_{g}"] = xauc(seconds_R[mine], self.watched[mine])
        return found

    def values(self, seconds_R: F32 | F64) -> dict[str, F64]:
        """`[U]` each user's part in `mae_s` and in `xauc`, so that users can be drawn again.

        Of the error its negative: more is better in every column of the bootstrap.

        XAUC is no mean over users but over pairs. To first order (Hoeffding's projection of a statistic of
        pairs) a user moves it by twice what its rows' own concordance lies above all rows', hence

            v_u = X + 2 (C_u / M_u - X)      C, M: pairs with a row of u that are in order, that count
        """
        error_U = np.bincount(self.place, np.abs(seconds_R - self.watched)) / self._count_U
        right_R, among_R = concordance(seconds_R, self.watched)
        right_U, among_U = np.bincount(self.place, right_R), np.bincount(self.place, among_R)
        whole = right_U.sum() / max(among_U.sum(), 1.0)
        own_U = np.divide(right_U, among_U, out=np.full(len(among_U), whole), where=among_U > 0)
        return {"mae_s": -error_U, "xauc": whole + 2 * (own_U - whole)}

    def measures(self) -> dict[str, Measure]:
        """How the users' values make the figures."""
        _, among_R = concordance(self.watched, self.watched)
        return {
            "mae_s": Measure("mae_s", self._count_U),
            "xauc": Measure("xauc", np.bincount(self.place, among_R).astype(np.float64)),
        }

    def by_duration(self, seconds_R: F32 | F64) -> list[dict[str, float]]:
        """Predicted and actual seconds of each duration group: mean and median of both."""
        out = []
        for g in range(OCTILES):
            mine = self.octile == g
            if mine.any():
                out.append(
                    {
                        "group": g,
                        "from_s": float(self.duration[mine].min()),
                        "to_s": float(self.duration[mine].max()),
                        "rows": int(mine.sum()),
                        "predicted_mean_s": float(seconds_R[mine].mean()),
                        "actual_mean_s": float(self.watched[mine].mean()),
                        "actual_median_s": float(np.median(self.watched[mine])),
                    }
                )
        return out

    def by_prediction(self, seconds_R: F32 | F64) -> list[dict[str, float]]:
        """Predicted and actual mean and median seconds of each tenth of the rows, by prediction."""
        parts = np.array_split(np.argsort(seconds_R, kind="stable"), _DECILES)
        return [
            {
                "predicted_mean_s": float(seconds_R[part].mean()),
                "actual_mean_s": float(self.watched[part].mean()),
                "actual_median_s": float(np.median(self.watched[part])),
            }
            for part in parts
            if len(part)
        ]

    def calibration(self, quantiles_R3: F32) -> dict[str, Any]:
        """How often the watch time lies at or below each predicted quantile, and between the outer two."""
        below_R3 = self.watched[:, None] <= quantiles_R3
        inside_R = below_R3[:, -1] & (self.watched >= quantiles_R3[:, 0])
        octiles = [below_R3[self.octile == g] for g in range(OCTILES)]
        return {
            "levels": list(QUANTILES),
            "below": below_R3.mean(axis=0).tolist(),
            "coverage": float(inside_R.mean()),
            "below_by_octile": [part.mean(axis=0).tolist() if len(part) else None for part in octiles],
        }
