"""Predicted objectives against what happened: AUC, GAUC and calibration, and each user's part in them."""

# Shape suffixes: R judged rows, U users, P pairs of rows of one user.

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np

from models.arrays import F32, F64, I64
from models.metrics import auc, ece, gauc, mae_s, xauc, xgauc
from training.data import Interactions
from training.evaluation.concordance import concordance
from training.rankers import NAMES, WATCH_TIME, outcomes

FREQUENT: Final = 100
"""Rows of either kind that an objective needs on the judged days to be in the means of the frequent ones."""

Scores = Mapping[str, F32]
"""`[R]` by objective: seconds of `watch_time`, probabilities of the others."""


class Judge:
    """The rows that methods are judged on, and the figures of predictions on them.

    Args:
        log: the log.
        rows: `[R]` judged rows.
    """

    def __init__(self, log: Interactions, rows: I64) -> None:
        self.rows = rows
        self.user = log.user[rows]
        self.actual: dict[str, F32] = {WATCH_TIME: log.watch_time_s[rows]}
        self.actual |= dict(zip(NAMES, outcomes(log.feedback[rows]).T, strict=True))
        self.users, self.place, self._count_U = np.unique(self.user, return_inverse=True, return_counts=True)
        self._first_P, self._second_P = _pairs(self.place)

    @property
    def judged(self) -> tuple[str, ...]:
        """The objectives whose order can be judged: rows differ in what happened."""
        return tuple(name for name, of in self.actual.items() if of.min() < of.max())

    @property
    def frequent(self) -> tuple[str, ...]:
        """Those of them with `FREQUENT` rows of either kind: two dozen hates move the AUC of hate by a tenth,
        and the mean over ten objectives by a hundredth, which is more than methods differ by."""
        kinds = {name: int((self.actual[name] > 0).sum()) for name in self.judged}
        return tuple(
            name
            for name, yes in kinds.items()
            if name == WATCH_TIME or min(yes, len(self.rows) - yes) >= FREQUENT
        )

    def figures(self, scores: Scores, together: Scores) -> dict[str, float | None]:
        """`auc/<objective>` and `gauc/<objective>` (XAUC and XGAUC of watch time), their means over the
        objectives `auc` and `gauc`, over the `frequent` ones `auc_frequent` and `gauc_frequent`,
        `ece/<objective>`, `mae_s`; `gauc_by_row` and its like are GAUC of `scores`.

        Args:
            scores: each row with what came before it.
            together: a user's rows as candidates of one request; GAUC is of these, see `batches_for`.
        """
        found: dict[str, float | None] = {}
        for name, of in self.actual.items():
            by = scores[name]
            if name == WATCH_TIME:
                found[f"auc/{name}"], found["mae_s"] = xauc(by, of), mae_s(by, of)
            else:
                found[f"auc/{name}"] = auc(of, by)
            found[f"gauc/{name}"] = self._order_within(name, together[name])
            found[f"gauc_by_row/{name}"] = self._order_within(name, by)
        for kind in ("auc", "gauc", "gauc_by_row"):
            for mean, names in ((kind, tuple(self.actual)), (f"{kind}_frequent", self.frequent)):
                known = [value for n in names if (value := found[f"{kind}/{n}"]) is not None]
                found[mean] = float(np.mean(known)) if known else None
        return found | self.calibration(scores)

    def calibration(self, scores: Scores) -> dict[str, float | None]:
        """`ece/<objective>`, of those with a probability."""
        return {f"ece/{name}": ece(self.actual[name], scores[name]) for name in NAMES}

    def values(self, scores: Scores, together: Scores) -> dict[str, F64]:
        """`[U]` each user's part in the four means, so that users can be drawn again: their plain means over
        the users are the figures.

        AUC of an objective is no mean over users but over pairs. To first order (Hoeffding's projection) a
        user moves it by twice what its rows' own concordance C_u / M_u lies above the whole's A, in
        proportion to its share of the pairs; GAUC is a mean weighted by exposures n_u:

            v_u = mean_o A_o + mean_o  2 U M_ou / Σ M_o (C_ou / M_ou - A_o)
            v_u = mean_o G_o + mean_o  U n_u / Σ n (G_ou - G_o)      over users with rows of both kinds
        """
        each = {name: self._parts(name, scores[name], together[name]) for name in self.judged}
        found = {}
        for kind in ("auc", "gauc"):
            for mean, names in ((kind, self.judged), (f"{kind}_frequent", self.frequent)):
                mine = [each[name][kind] for name in names if kind in each[name]]
                if mine:
                    found[mean] = np.mean(mine, axis=0)
        return found

    def _order_within(self, name: str, by: F32) -> float | None:
        of = self.actual[name]
        return xgauc(self.user, by, of) if name == WATCH_TIME else gauc(self.user, of, by)

    def _parts(self, name: str, by: F32, together: F32) -> dict[str, F64]:
        """`[U]` each user's part in AUC and GAUC of one objective."""
        users, of = len(self.users), self.actual[name]
        right_R, among_R = concordance(by, of) if name == WATCH_TIME else against_other_kind(by, of)
        right_U: F64 = np.bincount(self.place, right_R, minlength=users).astype(np.float64)
        among_U: F64 = np.bincount(self.place, among_R, minlength=users).astype(np.float64)
        level = right_U.sum() / among_U.sum()
        found = {"auc": level + 2 * users * (right_U - level * among_U) / among_U.sum()}
        right_U, among_U = self._within(together, of)
        both = among_U > 0
        if both.any():
            weight_U = np.where(both, self._count_U, 0).astype(np.float64)
            own_U = np.divide(right_U, among_U, out=np.zeros(users), where=both)
            level = float(np.average(own_U, weights=weight_U))
            found["gauc"] = level + users * weight_U * (own_U - level) / weight_U.sum()
        return found

    def _within(self, by_R: F32, of_R: F32) -> tuple[F64, F64]:
        """`[U]` pairs of rows of a user in the right order (a tie counts ½), and pairs that count."""
        of_P = np.sign(of_R[self._first_P] - of_R[self._second_P])
        by_P = np.sign(by_R[self._first_P] - by_R[self._second_P])
        counts_P = of_P != 0
        user_P, users = self.place[self._first_P], len(self.users)
        right_P = counts_P * (1 + of_P * by_P) / 2
        right_U, among_U = (np.bincount(user_P, of, minlength=users) for of in (right_P, counts_P))
        return right_U.astype(np.float64), among_U.astype(np.float64)


def against_other_kind(by_R: F32, happened_R: F32) -> tuple[F64, F64]:
    """As `concordance` of a yes or no, in O(R log R): each row against the rows of the other kind."""
    yes = happened_R > 0
    right_R, among_R = np.empty(len(yes)), np.empty(len(yes))
    for mine, sign in ((yes, 1), (~yes, -1)):
        other = np.sort(sign * by_R[~mine])
        low, high = (np.searchsorted(other, sign * by_R[mine], side) for side in ("left", "right"))
        right_R[mine] = (low + high) / 2
        among_R[mine] = len(other)
    return right_R, among_R


def _pairs(place_R: I64) -> tuple[I64, I64]:
    """Every pair of rows of one user, each once."""
    order = np.argsort(place_R, kind="stable")
    first, second = [], []
    ahead = 1
    while True:
        same = place_R[order[ahead:]] == place_R[order[:-ahead]] if ahead < len(order) else np.zeros(0, bool)
        if not same.any():
            break
        first.append(order[:-ahead][same])
        second.append(order[ahead:][same])
        ahead += 1
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *first]), np.concatenate([none, *second])
