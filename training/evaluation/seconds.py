"""Predicted watch times on a test window: errors, order, calibration, and each user's part in them."""

# Shape suffixes: R test rows, U users, K parts of a distribution.

from __future__ import annotations

from functools import cached_property
from typing import Any, Final, cast

import numpy as np
import torch

from models.arrays import F32, F64, I64
from models.metrics import (
    count_pairs,
    gauc,
    long_view,
    mae_s,
    mape,
    pinball,
    rmse_s,
    row_pairs,
    xauc,
    xgauc,
)
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

    Seconds are predicted twice: each row with the sequence before it, for errors and XAUC; and a user's rows
    as candidates of one request, for the order within users, see `batches_for`.

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
        self._rows_U = self._sums(np.ones(len(self.user)))

    @cached_property
    def measures(self) -> dict[str, Measure]:
        """How `values` make the figures. Weights sum to the rows of the window: a user has its rows in errors
        and in the order within users, if that is defined, and its rows' comparable pairs in XAUC."""
        pairs_U = self._sums(row_pairs(self.watched, self.watched).comparable)
        within = {
            "xgauc": self._sums(row_pairs(self.watched, self.watched, self.user).comparable) > 0,
            "gauc_long_view": self._sums(row_pairs(self.long_view, self.long_view, self.user).comparable) > 0,
        }
        weights: dict[str, F64] = {
            **dict.fromkeys(("mae_s", "rmse_s", "crps", "pinball"), self._rows_U),
            "xauc": pairs_U,
            **{name: self._rows_U * defined_U for name, defined_U in within.items()},
        }
        return {
            name: Measure(
                name,
                weight_U * (len(self.user) / max(float(weight_U.sum()), 1.0)),
                _minus_root if name == "rmse_s" else None,
            )
            for name, weight_U in weights.items()
        }

    def figures(self, by_row: F32 | F64, by_request: F32 | F64) -> dict[str, float | None]:
        """Return every figure by name: `mae_s`, `rmse_s`, `mape`, `bias_s`, `xauc` and its other conventions,
        `mae_s` and `xauc` of each duration group (`/octile_3`) and activity group, and, in one request,
        `xgauc` and `gauc_long_view`.

        Args:
            by_row: `[R]` seconds of each row with the sequence before it.
            by_request: `[R]` seconds of a user's rows as candidates of one request.
        """
        pairs = count_pairs(by_row, self.watched)
        figures: dict[str, float | None] = {
            "mae_s": mae_s(by_row, self.watched),
            "rmse_s": rmse_s(by_row, self.watched),
            "mape": mape(by_row, self.watched),
            "bias_s": float((by_row - self.watched).mean()),
            "xauc": pairs.xauc(),
            "xauc_strict": pairs.xauc("strict"),
            "xauc_lenient": pairs.xauc("lenient"),
            "xgauc": xgauc(self.user, by_request, self.watched),
            "gauc_long_view": gauc(self.user, self.long_view, by_request),
        }
        for name, group, size in (
            ("octile", self.octile, OCTILES),
            ("activity", self.activity, len(ACTIVITY)),
        ):
            for g in range(size):
                members = group == g
                if members.any():
                    figures[f"mae_s/{name}_{g}"] = mae_s(by_row[members], self.watched[members])
                    figures[f"xauc/{name}_{g}"] = xauc(by_row[members], self.watched[members])
        return figures

    def distribution_figures(self, quantiles_R3: F32, crps_R: F32 | F64) -> dict[str, float | None]:
        """Return `crps`; `pinball_p10` and its like, and their mean `pinball`; how often watch times are at
        or below each quantile, `below_p10` and its like; and between the outer two, `coverage`.

        Args:
            quantiles_R3: predicted seconds at `QUANTILES`.
            crps_R: ranked probability score of each row's distribution, s.
        """
        figures: dict[str, float | None] = {"crps": float(crps_R.mean())}
        for level, quantile_R in zip(QUANTILES, quantiles_R3.T, strict=True):
            figures[f"pinball_p{100 * level:.0f}"] = pinball(quantile_R, self.watched, level)
            figures[f"below_p{100 * level:.0f}"] = float((self.watched <= quantile_R).mean())
        figures["pinball"] = float(self._pinball(quantiles_R3).mean())
        inside_R = (self.watched <= quantiles_R3[:, -1]) & (self.watched >= quantiles_R3[:, 0])
        return figures | {"coverage": float(inside_R.mean())}

    def values(self, by_row: F32 | F64, by_request: F32 | F64) -> dict[str, F64]:
        """Return `[U]` each user's part in the figures that are compared, so that users can be resampled.

        Of errors their negatives: more is better in every figure of the bootstrap; of RMSE the squares.

        XAUC is no mean over users but over pairs. To first order (Hoeffding's projection of a statistic of
        pairs) a user moves it by twice what its rows' own concordance lies above all rows', hence

            v_u = X + 2 (C_u / M_u - X)      C, M: pairs with a row of u that are in order, that count

        Within users, a user without a pair to order has NaN.
        """
        away_R = np.asarray(by_row, np.float64) - self.watched
        right_U, comparable_U = self._pairs(by_row, self.watched)
        whole = right_U.sum() / max(comparable_U.sum(), 1.0)
        own_U = np.divide(
            right_U, comparable_U, out=np.full(len(comparable_U), whole), where=comparable_U > 0
        )
        return {
            "mae_s": -self._means(np.abs(away_R)),
            "rmse_s": -self._means(np.square(away_R)),
            "xauc": whole + 2 * (own_U - whole),
            "xgauc": self._order_within(by_request, self.watched),
            "gauc_long_view": self._order_within(by_request, self.long_view),
        }

    def distribution_values(self, quantiles_R3: F32, crps_R: F32 | F64) -> dict[str, F64]:
        """Return `[U]` each user's part in `crps` and `pinball`, as `values`."""
        return {
            "crps": -self._means(np.asarray(crps_R, np.float64)),
            "pinball": -self._means(self._pinball(quantiles_R3)),
        }

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

    def calibration(self, quantiles_R3: F32) -> dict[str, Any]:
        """Return by duration group how often watch times are at or below each predicted quantile."""
        below_R3 = self.watched[:, None] <= quantiles_R3
        octiles = [below_R3[self.octile == g] for g in range(OCTILES)]
        return {
            "levels": list(QUANTILES),
            "below_by_octile": [part.mean(axis=0).tolist() if len(part) else None for part in octiles],
        }

    def _predicted_and_actual(self, seconds_R: F32 | F64, rows: I64) -> dict[str, float]:
        return {
            "predicted_mean_s": float(seconds_R[rows].mean()),
            "actual_mean_s": float(self.watched[rows].mean()),
            "actual_median_s": float(np.median(self.watched[rows])),
        }

    def _pinball(self, quantiles_R3: F32) -> F64:
        """`[R]` mean over the levels."""
        level_3 = np.array(QUANTILES)
        over_R3 = self.watched.astype(np.float64)[:, None] - quantiles_R3
        return cast(F64, np.maximum(level_3 * over_R3, (level_3 - 1) * over_R3).mean(axis=1))

    def _order_within(self, score_R: F32 | F64, target_R: Any) -> F64:
        right_U, comparable_U = self._pairs(score_R, target_R, self.user)
        undefined_U: F64 = np.full(len(right_U), np.nan)
        return np.divide(right_U, comparable_U, out=undefined_U, where=comparable_U > 0)

    def _pairs(self, score_R: F32 | F64, target_R: Any, group_R: I64 | None = None) -> tuple[F64, F64]:
        pairs = row_pairs(score_R, target_R, group_R)
        return self._sums(pairs.right), self._sums(pairs.comparable)

    def _means(self, value_R: F64) -> F64:
        return self._sums(value_R) / self._rows_U

    def _sums(self, value_R: F64 | I64) -> F64:
        return cast(F64, np.bincount(self.user_index, value_R).astype(np.float64))


def _minus_root(mean: F64) -> F64:
    """Of a mean of negative squares."""
    out: F64 = -np.sqrt(np.maximum(-mean, 0.0))
    return out
