"""How often a label puts a like above a hate: over all pairs, and within each user."""

# Shape suffixes: N rows, U users, D resamples.

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from models.arrays import F32, F64, I64
from training.data import LikesHates
from training.evaluation.fairness import Bootstrap

HALVES: Final = ("whole", "learning", "held_out")
"""All users, those whom labels may be learned from, and those who are kept for evaluation."""


class LikesHatesEvaluator:
    """AUC of likes above hates for any score, with intervals over users.

        AUC = Σ_uv R_uv / Σ_uv P_uv         mean over users = mean_u R_uu / P_uu

    P_uv counts the pairs of a like of user u and a hate of user v, R_uv those with the like above; a tie
    counts ½. Both are counted once: a resample of users weights pairs instead of counting them again.

    Args:
        rows: liked and hated exposures.
        reference_N: `[N]` the score that others are compared with, on the same resamples.
        bootstrap: of the intervals.

    Raises:
        BadInput: a half of the users lacks likes, hates, or a user with both.
    """

    def __init__(self, rows: LikesHates, reference_N: F32 | F64, bootstrap: Bootstrap) -> None:
        self.rows = rows
        self.bootstrap = bootstrap
        parts = dict(zip(HALVES, (rows, *rows.halves()), strict=True))
        self.users = {half: np.unique(part.log.user) for half, part in parts.items()}
        """By half, `[U]`."""
        self.pairs_UU = self._right(np.zeros(len(rows.liked)), tie=1.0)
        self.reference_UU = self._right(reference_N)

    def figures(self, score_N: F32 | F64) -> dict[str, Any]:
        """Return the figures of a score `[N]` as JSON.

        Returns:
            By half `auc` and `user_auc`, the mean over users with likes and hates; `lead` and `user_lead`
            over the reference; and the interval of each, `auc_ci` to `user_lead_ci`.
        """
        right_UU = self._right(score_N)
        return {half: self._half(users, right_UU) for half, users in self.users.items()}

    def _half(self, users: I64, right_UU: F64) -> dict[str, Any]:
        inside = np.ix_(users, users)
        right_UU, other_UU, pairs_UU = right_UU[inside], self.reference_UU[inside], self.pairs_UU[inside]
        both = np.diag(pairs_UU) > 0
        own_U = np.divide(np.diag(right_UU), np.diag(pairs_UU), where=both, out=np.zeros(len(users)))
        other_U = np.divide(np.diag(other_UU), np.diag(pairs_UU), where=both, out=np.zeros(len(users)))

        def pooled(value_UU: F64, count_DU: F64) -> F64:
            ratio: F64 = _weighted(value_UU, count_DU) / _weighted(pairs_UU, count_DU)
            return ratio

        def by_user(value_U: F64, count_DU: F64) -> F64:
            mean: F64 = count_DU[:, both] @ value_U[both] / count_DU[:, both].sum(axis=1)
            return mean

        figures: dict[str, Callable[[F64], F64]] = {
            "auc": lambda count_DU: pooled(right_UU, count_DU),
            "user_auc": lambda count_DU: by_user(own_U, count_DU),
            "lead": lambda count_DU: pooled(right_UU - other_UU, count_DU),
            "user_lead": lambda count_DU: by_user(own_U - other_U, count_DU),
        }
        found: dict[str, Any] = {}
        for name, figure in figures.items():
            found[name] = float(figure(np.ones((1, len(users))))[0])
            found[f"{name}_ci"] = self.bootstrap.interval(figure, len(users))
        return found

    def _right(self, score_N: F32 | F64, tie: float = 0.5) -> F64:
        """Return `[U, U]` pairs of a like of the first user and a hate of the second that are in order."""
        user_N, liked_N = self.rows.log.user, self.rows.liked
        size = len(self.rows.log.user_ids)
        like_N, by_N = score_N[liked_N], user_N[liked_N]
        right_UU = np.zeros((size, size))
        for user in range(size):
            hate_N = np.sort(score_N[~liked_N & (user_N == user)])
            below_N, up_to_N = (np.searchsorted(hate_N, like_N, side) for side in ("left", "right"))
            right_UU[:, user] = np.bincount(by_N, below_N + tie * (up_to_N - below_N), minlength=size)
        return right_UU


def _weighted(value_UU: F64, count_DU: F64) -> F64:
    out: F64 = np.einsum("du,du->d", count_DU @ value_UU, count_DU)
    return out
