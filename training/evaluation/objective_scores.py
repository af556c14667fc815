"""Predicted objectives on a test window: AUC, GAUC, calibration, and each user's part in them."""

# Shape suffixes: R test rows, U users.

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Final

import numpy as np

from models.arrays import F32, F64, I64
from models.metrics import auc, ece, gauc, mae_s, row_pairs, xauc, xgauc
from training.data import Interactions
from training.evaluation.bootstrap import Measure
from training.rankers import NAMES, WATCH_TIME, outcomes

FREQUENT: Final = 100
"""Rows of either kind that an objective needs in the test window to count as frequent."""

Scores = Mapping[str, F32]
"""`[R]` by objective: seconds of `watch_time`, probabilities of the others."""


class ScoresEvaluator:
    """AUC, GAUC and calibration of predicted objectives on the test window, and each user's part in them.

    Args:
        log: the exposures.
        rows: `[R]` those of the test window.
    """

    def __init__(self, log: Interactions, rows: I64) -> None:
        self.user = log.user[rows]
        self.actual: dict[str, F32] = {WATCH_TIME: log.watch_time_s[rows]}
        self.actual |= dict(zip(NAMES, outcomes(log.feedback[rows]).T, strict=True))
        self.users, self.user_index, self._rows_U = np.unique(
            self.user, return_inverse=True, return_counts=True
        )

    @cached_property
    def measures(self) -> dict[str, Measure]:
        """The four means; users' parts are scaled so that all users count the same."""
        once_U = np.ones(len(self.users))
        return {name: Measure(name, once_U) for name in ("auc", "auc_frequent", "gauc", "gauc_frequent")}

    @property
    def varied(self) -> tuple[str, ...]:
        """The objectives whose order can be evaluated: rows differ in the outcome."""
        return tuple(name for name, outcome in self.actual.items() if outcome.min() < outcome.max())

    @property
    def frequent(self) -> tuple[str, ...]:
        """Those of them with `FREQUENT` rows of either kind: two dozen hates move the AUC of hate by a tenth,
        and the mean over ten objectives by a hundredth, which is more than methods differ by."""
        positive = {name: int((self.actual[name] > 0).sum()) for name in self.varied}
        return tuple(
            name
            for name, rows in positive.items()
            if name == WATCH_TIME or min(rows, len(self.user) - rows) >= FREQUENT
        )

    def figures(self, by_row: Scores, by_request: Scores) -> dict[str, float | None]:
        """Return `auc/<objective>` and `gauc/<objective>` (XAUC and XGAUC of watch time), their means over
        the objectives `auc` and `gauc`, over the frequent ones `auc_frequent` and `gauc_frequent`,
        `ece/<objective>`, `mae_s`; `gauc_by_row` and its like are GAUC of `by_row`.

        Args:
            by_row: each row with the sequence before it.
            by_request: a user's rows as candidates of one request, for GAUC; see `batches_for`.
        """
        figures: dict[str, float | None] = {}
        for name, outcome in self.actual.items():
            score = by_row[name]
            if name == WATCH_TIME:
                figures[f"auc/{name}"], figures["mae_s"] = xauc(score, outcome), mae_s(score, outcome)
            else:
                figures[f"auc/{name}"] = auc(outcome, score)
            figures[f"gauc/{name}"] = self._order_within_users(name, by_request[name])
            figures[f"gauc_by_row/{name}"] = self._order_within_users(name, score)
        for kind in ("auc", "gauc", "gauc_by_row"):
            for mean, names in ((kind, tuple(self.actual)), (f"{kind}_frequent", self.frequent)):
                defined = [value for n in names if (value := figures[f"{kind}/{n}"]) is not None]
                figures[mean] = float(np.mean(defined)) if defined else None
        return figures | self.calibration(by_row)

    def calibration(self, scores: Scores) -> dict[str, float | None]:
        """Return `ece/<objective>` of those with a probability."""
        return {f"ece/{name}": ece(self.actual[name], scores[name]) for name in NAMES}

    def values(self, by_row: Scores, by_request: Scores) -> dict[str, F64]:
        """Return `[U]` each user's part in the four means, whose plain mean over the users is the figure.

        AUC of an objective is no mean over users but over pairs. To first order (Hoeffding's projection) a
        user moves it by twice what its rows' own concordance C_u / M_u lies above the whole's A, in
        proportion to its share of the pairs; GAUC is a mean weighted by exposures n_u:

            v_u = mean_o A_o + mean_o  2 U M_ou / Σ M_o (C_ou / M_ou - A_o)
            v_u = mean_o G_o + mean_o  U n_u / Σ n (G_ou - G_o)      over users with rows of both kinds
        """
        parts = {name: self._user_parts(name, by_row[name], by_request[name]) for name in self.varied}
        values = {}
        for kind in ("auc", "gauc"):
            for mean, names in ((kind, self.varied), (f"{kind}_frequent", self.frequent)):
                defined = [parts[name][kind] for name in names if kind in parts[name]]
                if defined:
                    values[mean] = np.mean(defined, axis=0)
        return values

    def _order_within_users(self, name: str, score_R: F32) -> float | None:
        outcome_R = self.actual[name]
        if name == WATCH_TIME:
            return xgauc(self.user, score_R, outcome_R)
        return gauc(self.user, outcome_R, score_R)

    def _user_parts(self, name: str, by_row_R: F32, by_request_R: F32) -> dict[str, F64]:
        users, outcome_R = len(self.users), self.actual[name]
        pairs = row_pairs(by_row_R, outcome_R)
        right_U, comparable_U = self._by_user(pairs.right), self._by_user(pairs.comparable)
        whole = right_U.sum() / comparable_U.sum()
        parts = {"auc": whole + 2 * users * (right_U - whole * comparable_U) / comparable_U.sum()}
        pairs = row_pairs(by_request_R, outcome_R, self.user)
        right_U, comparable_U = self._by_user(pairs.right), self._by_user(pairs.comparable)
        both_U = comparable_U > 0
        if both_U.any():
            weight_U = np.where(both_U, self._rows_U, 0).astype(np.float64)
            own_U = np.divide(right_U, comparable_U, out=np.zeros(users), where=both_U)
            whole = float(np.average(own_U, weights=weight_U))
            parts["gauc"] = whole + users * weight_U * (own_U - whole) / weight_U.sum()
        return parts

    def _by_user(self, value_R: F64 | I64) -> F64:
        return np.bincount(self.user_index, value_R, minlength=len(self.users)).astype(np.float64)
