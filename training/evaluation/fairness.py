"""How slates distribute exposure over groups of videos, and what they are worth to groups of users."""

# Shape suffixes: R evaluated rows, U users with more than k rows, K positions, G groups, D resamples.

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from models.arrays import F32, F64, I64, Bools
from models.metrics import Confusion, first_k, gauc, long_view, mae_s, nwtg_at_k
from training.evaluation.bootstrap import draws

FEW_USERS: Final = 20
"""Groups with fewer users who have a relevant row take no part in `gap`."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class Groups:
    """A partition of rows."""

    names: tuple[str, ...]
    """`G` of them."""
    index: I64
    """`[R]` 0 … G - 1."""


@dataclass(frozen=True)
class EvaluatedRows:
    """Rows that rankings are evaluated on."""

    user: I64
    """`[R]`"""
    watched: F32
    """`[R]` watch time, s."""
    duration: F32
    """`[R]` s."""
    relevant: Bools
    """`[R]` whether the row is worth recommending."""

    def take(self, rows: Bools) -> EvaluatedRows:
        """Return some of the rows."""
        return EvaluatedRows(*(column[rows] for column in vars(self).values()))


@dataclass(frozen=True)
class Bootstrap:
    """Resamples of users for the intervals of an audit."""

    resamples: int
    seed: int

    def interval(self, figure: Callable[[F64], F64], users: int) -> Interval:
        """Return the middle 95 % of a figure over resampled users.

        Args:
            figure: `[D, U]` how often each user is drawn -> `[D]`.
            users: U.
        """
        if not users:
            return (float("nan"), float("nan"))
        counts = draws(users, self.resamples, np.random.default_rng(self.seed))
        figures = np.concatenate([figure(counts_DU.astype(np.float64)) for counts_DU in counts])
        low, high = np.quantile(figures, [0.025, 0.975])
        return float(low), float(high)


def exposure_by_group(
    rows: EvaluatedRows, score_R: F32 | F64, groups: Groups, k: int, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Compute exposure and gain of every group in the first k rows of each user's list.

    Args:
        rows: of users; those with k rows or fewer take no part.
        score_R: what lists are sorted by; rows with equal scores keep their order.
        groups: of the rows' videos.
        k: positions that count as shown.
        bootstrap: of the intervals.

    Returns:
        As JSON, with one entry a group in lists:

        * `share`: of the first k rows; `logged`: of what these users were shown, each user counted k times,
          so that random lists have just this share.
        * `distance` = ½ Σ_g |share_g - logged_g|: positions that would have to go to another group.
        * `ndcg`: of the whole list, counting the group's relevant rows alone, over the `users` who have any:
          Σ_{i<=k} rel_i [group_i = g] / log2(i + 1) over the same with those rows first; `None` where no
          user has any. `chance`: its expectation in a random order. A list without the group has 0.
        * `gap`: largest less smallest `ndcg - chance` of the groups with `FEW_USERS` or more.
        * `distance_ci`, `gap_ci`: 95 % over resampled users.
    """
    size = len(groups.names)
    users, top_UK = first_k(rows.user, score_R, k)
    position_R = np.searchsorted(users, rows.user).clip(max=max(len(users) - 1, 0))
    counted_R = users[position_R] == rows.user if len(users) else np.zeros(len(rows.user), bool)
    top_cell_UK = np.arange(len(users))[:, None] * size + groups.index[top_UK]
    cell_R = position_R[counted_R] * size + groups.index[counted_R]

    def sums(cell: I64, weight: npt.NDArray[Any] | None = None) -> F64:
        flat = None if weight is None else weight.ravel()
        return np.bincount(cell.ravel(), flat, len(users) * size).reshape(-1, size).astype(np.float64)

    shown_UG, rows_UG = sums(top_cell_UK), sums(cell_R)
    rows_U1 = rows_UG.sum(axis=1, keepdims=True)
    logged_UG = k * rows_UG / np.maximum(rows_U1, 1)
    discount_K = 1 / np.log2(np.arange(2, k + 2))
    gain_UG = sums(top_cell_UK, rows.relevant[top_UK] * discount_K)
    relevant_UG = sums(cell_R, rows.relevant[counted_R])
    ideal_UG = np.r_[0.0, np.cumsum(discount_K)][np.minimum(relevant_UG, k).astype(np.int64)]
    has_UG = ideal_UG > 0
    ndcg_UG = np.divide(gain_UG, ideal_UG, out=np.zeros_like(ideal_UG), where=has_UG)
    random_UG = relevant_UG / np.maximum(rows_U1, 1) * discount_K.sum()
    chance_UG = np.divide(random_UG, ideal_UG, out=np.zeros_like(ideal_UG), where=has_UG)
    users_G = has_UG.sum(axis=0)
    enough_G = users_G >= FEW_USERS

    def distance(weight_DU: F64) -> F64:
        shown_DG, logged_DG = weight_DU @ shown_UG, weight_DU @ logged_UG
        total_D = np.maximum(shown_DG.sum(axis=1), 1)
        distance_D: F64 = np.abs(shown_DG - logged_DG).sum(axis=1) / total_D / 2
        return distance_D

    def gap(weight_DU: F64) -> F64:
        users_DG = np.maximum(weight_DU @ has_UG[:, enough_G], 1)
        lift_DG = weight_DU @ (ndcg_UG - chance_UG)[:, enough_G] / users_DG
        gap_D: F64 = lift_DG.max(axis=1) - lift_DG.min(axis=1)
        return gap_D

    def mean(value_UG: F64) -> list[float | None]:
        pairs = zip(value_UG.sum(axis=0).tolist(), users_G.tolist(), strict=True)
        return [total / n if n else None for total, n in pairs]

    once_1U = np.ones((1, len(users)))
    some = bool(enough_G.any())
    return {
        "share": (shown_UG.sum(axis=0) / max(shown_UG.sum(), 1)).tolist(),
        "logged": (logged_UG.sum(axis=0) / max(logged_UG.sum(), 1)).tolist(),
        "ndcg": mean(ndcg_UG),
        "chance": mean(chance_UG),
        "users": users_G.tolist(),
        "distance": float(distance(once_1U)[0]),
        "distance_ci": bootstrap.interval(distance, len(users)),
        "gap": float(gap(once_1U)[0]) if some else None,
        "gap_ci": bootstrap.interval(gap, len(users)) if some else None,
    }


def utility_by_user_group(
    rows: EvaluatedRows,
    score_R: F32 | F64,
    predictions: Mapping[str, F32],
    groups: Groups | None,
    k: int,
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Compute what a ranking is worth to each group of users.

    Args:
        rows: of all users.
        score_R: what lists are sorted by.
        predictions: `seconds`, the predicted watch time, and `half`, the predicted probability that more than
            half is watched, `[R]` each, where there are any.
        groups: of the rows' users; `None` evaluates all users alone.
        k: positions of a list.
        bootstrap: of the interval.

    Returns:
        As JSON `whole` and `groups`, and `gap` with `gap_ci`: the first group's NWTG less the second's.
    """
    everyone = np.ones(len(rows.user), bool)
    utility: dict[str, Any] = {
        "whole": _utility("all", everyone, rows, score_R, predictions, k),
        "groups": [],
        "gap": None,
        "gap_ci": None,
    }
    if groups is None:
        return utility
    utility["groups"] = [
        _utility(name, groups.index == g, rows, score_R, predictions, k)
        for g, name in enumerate(groups.names)
    ]
    gain = nwtg_at_k(rows.user, score_R, rows.watched, k)
    users, first_row_U = np.unique(rows.user, return_index=True)
    group_U = groups.index[first_row_U[np.searchsorted(users, gain.users)]]
    members = [(group_U == g).astype(np.float64) for g in (0, 1)]

    def lead(weight_DU: F64) -> F64:
        first_D, second_D = (
            (weight_DU @ (gain.values * member_U)) / np.maximum(weight_DU @ member_U, 1)
            for member_U in members
        )
        lead_D: F64 = first_D - second_D
        return lead_D

    if all(member_U.any() for member_U in members):
        utility["gap"] = float(lead(np.ones((1, len(group_U))))[0])
        utility["gap_ci"] = bootstrap.interval(lead, len(group_U))
    return utility


def _utility(
    name: str,
    member_R: Bools,
    rows: EvaluatedRows,
    score_R: F32 | F64,
    predictions: Mapping[str, F32],
    k: int,
) -> dict[str, Any]:
    """Return the figures of a group of users. Means count each user once, errors each row."""
    part, score = rows.take(member_R), score_R[member_R]
    watched, duration = part.watched, part.duration
    gain = nwtg_at_k(part.user, score, watched, k)
    one = Groups(("all",), np.zeros(len(part.user), np.int64))
    exposure = exposure_by_group(part, score, one, k, Bootstrap(resamples=1, seed=0))
    seconds, half = (predictions.get(column) for column in ("seconds", "half"))
    return {
        "name": name,
        "rows": int(member_R.sum()),
        "users": len(gain.values),
        "nwtg": gain.mean,
        "ndcg": exposure["ndcg"][0],
        "relevant_users": exposure["users"][0],
        "gauc_long_view": gauc(part.user, long_view(watched, duration), score),
        "mae_s": None if seconds is None else mae_s(seconds[member_R], watched),
        "half": None if half is None else _classify(watched, duration, half[member_R]),
    }


def _classify(watched_R: F32, duration_R: F32, half_R: F32) -> dict[str, Any]:
    """Return the figures of "more than half is watched", predicted where its probability is above ½."""
    counts = Confusion.from_columns(watched_R / duration_R > 0.5, half_R > 0.5)
    figures = {name: getattr(counts, name) for name in ("accuracy", "precision", "recall", "f1")}
    return {**figures, "counts": counts._asdict()}
