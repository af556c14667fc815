"""How a ranking deals places out to groups of videos, and what groups of users get from it."""

# Shape suffixes: R judged rows, U users with more than k rows, K places, G groups, D resamples.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.arrays import F32, F64, I64, Bools
from models.metrics import Confusion, first_k, gauc, long_view, mae_s, nwtg_at_k
from training.compare.audit._world import AuditWorld, Groups
from training.evaluation.bootstrap import draws

FEW_USERS: Final = 20
"""Groups with fewer users that have something relevant take no part in `gap`."""

Interval = tuple[float, float]


@dataclass(frozen=True)
class ByGroup:
    """What lists do with groups of videos.

    * `share`: of the first k places; `logged`: of what these users were shown, each user counted k times, so
      that lists in random order have just this share.
    * `distance` = ½ Σ_g |share_g - logged_g|: places that would have to change hands.
    * `ndcg`: of the whole list, counting the group's relevant rows alone, over the users that have any:
      Σ_{i<=k} rel_i [group_i = g] / log2(i + 1) over the same with those rows first. `chance`: the same
      expected of a random order. A list that leaves a group out has 0, below chance.
    * `gap`: largest less smallest `ndcg - chance` of the groups with `FEW_USERS` or more.
    """

    share: F64
    logged: F64
    ndcg: F64
    """NaN where no user has anything relevant."""
    chance: F64
    users: I64
    distance: float
    distance_ci: Interval
    gap: float | None
    gap_ci: Interval | None

    def as_json(self) -> dict[str, Any]:
        """Lists, `None` for what is undefined."""
        ndcg = [None if np.isnan(v) else float(v) for v in self.ndcg]
        chance = [None if np.isnan(v) else float(v) for v in self.chance]
        return {
            **vars(self),
            "share": self.share.tolist(),
            "logged": self.logged.tolist(),
            "users": self.users.tolist(),
            "ndcg": ndcg,
            "chance": chance,
        }


def by_group(
    user_R: I64, score_R: F32 | F64, relevant_R: Bools, groups: Groups, k: int, *, resamples: int, seed: int
) -> ByGroup:
    """Places and gain of every group in the first k places of each user's list.

    Args:
        user_R: whose rows.
        score_R: what lists are sorted by; rows it does not tell apart keep their order.
        relevant_R: which rows are worth showing.
        groups: which group each row is of.
        k: places.
        resamples, seed: of the bootstrap over users.
    """
    size = len(groups.names)
    users, top_UK = first_k(user_R, score_R, k)
    place_R = np.searchsorted(users, user_R)
    mine_R = (
        np.zeros(len(user_R), bool) if not len(users) else users[place_R.clip(max=len(users) - 1)] == user_R
    )

    def counts(weight_R: F64 | None = None) -> F64:
        cell = place_R[mine_R] * size + groups.of[mine_R]
        weight = None if weight_R is None else weight_R[mine_R]
        return np.bincount(cell, weight, len(users) * size).reshape(len(users), size).astype(np.float64)

    shown_UG = _cells(groups.of[top_UK], np.ones(top_UK.shape), size)
    rows_UG = counts()
    rows_U1 = rows_UG.sum(axis=1, keepdims=True)
    logged_UG = k * rows_UG / np.maximum(rows_U1, 1)
    discount_K = 1 / np.log2(np.arange(2, k + 2))
    gained_UG = _cells(groups.of[top_UK], relevant_R[top_UK] * discount_K, size)
    wanted_UG = counts(relevant_R.astype(np.float64))
    ideal_UG = np.r_[0.0, np.cumsum(discount_K)][np.minimum(wanted_UG, k).astype(np.int64)]
    has_UG = ideal_UG > 0
    ndcg_UG = np.divide(gained_UG, ideal_UG, out=np.zeros_like(ideal_UG), where=has_UG)
    expected_UG = wanted_UG / np.maximum(rows_U1, 1) * discount_K.sum()
    chance_UG = np.divide(expected_UG, ideal_UG, out=np.zeros_like(ideal_UG), where=has_UG)
    enough_G = has_UG.sum(axis=0) >= FEW_USERS

    def distance(weight_DU: F64) -> F64:
        shown_DG, logged_DG = weight_DU @ shown_UG, weight_DU @ logged_UG
        total_D1 = np.maximum(shown_DG.sum(axis=1, keepdims=True), 1)
        out: F64 = np.abs(shown_DG - logged_DG).sum(axis=1) / total_D1[:, 0] / 2
        return out

    def gap(weight_DU: F64) -> F64:
        known_DG = np.maximum(weight_DU @ has_UG[:, enough_G], 1)
        lift_DG = weight_DU @ (ndcg_UG - chance_UG)[:, enough_G] / known_DG
        out: F64 = lift_DG.max(axis=1) - lift_DG.min(axis=1)
        return out

    everybody = np.ones((1, len(users)))
    with np.errstate(invalid="ignore", divide="ignore"):
        ndcg, chance = (of.sum(axis=0) / has_UG.sum(axis=0) for of in (ndcg_UG, chance_UG))
    some = bool(enough_G.any())
    return ByGroup(
        shown_UG.sum(axis=0) / max(shown_UG.sum(), 1),
        logged_UG.sum(axis=0) / max(logged_UG.sum(), 1),
        ndcg,
        chance,
        has_UG.sum(axis=0),
        float(distance(everybody)[0]),
        _interval(distance, len(users), resamples, seed),
        float(gap(everybody)[0]) if some else None,
        _interval(gap, len(users), resamples, seed) if some else None,
    )


@dataclass(frozen=True)
class OfUsers:
    """What a group of users gets. Means count each user once, errors each row."""

    name: str
    rows: int
    users: int
    """With more than k rows: those of `nwtg` and `ndcg`."""
    nwtg: float | None
    ndcg: float | None
    """Of WTG relevance, over those of them that have something relevant."""
    relevant_users: int
    gauc_long_view: float | None
    mae_s: float | None
    half: dict[str, Any] | None
    """Accuracy, precision, recall, F1 and counts of "more than half is watched", where that is predicted."""


@dataclass(frozen=True)
class ByUser:
    """Every group of users, and the lead of the first over the second."""

    whole: OfUsers
    groups: tuple[OfUsers, ...]
    gap: float | None
    """In `nwtg`."""
    gap_ci: Interval | None

    def as_json(self) -> dict[str, Any]:
        return {
            "whole": vars(self.whole),
            "groups": [vars(group) for group in self.groups],
            "gap": self.gap,
            "gap_ci": self.gap_ci,
        }


def by_user(
    world: AuditWorld,
    score_R: F32 | F64,
    seconds_R: F32 | None,
    half_R: F32 | None,
    k: int,
    *,
    resamples: int,
    seed: int,
) -> ByUser:
    """What each group of users gets from a ranking; without groups the whole alone.

    Args:
        world: the judged rows.
        score_R: what lists are sorted by.
        seconds_R: predicted watch time, if there is any.
        half_R: predicted probability that more than half is watched, if there is any.
        k: places.
        resamples, seed: of the bootstrap over users.
    """
    everybody = np.ones(len(world.user), bool)
    whole = _of_users("all", everybody, world, score_R, seconds_R, half_R, k)
    if world.user_groups is None:
        return ByUser(whole, (), None, None)
    of = world.user_groups.of
    groups = tuple(
        _of_users(name, of == g, world, score_R, seconds_R, half_R, k)
        for g, name in enumerate(world.user_groups.names)
    )
    gained = nwtg_at_k(world.user, score_R, world.watched, k)
    _, a_row_U = np.unique(world.user, return_index=True)
    group_U = of[a_row_U[np.searchsorted(np.unique(world.user), gained.users)]]
    if not all((group_U == g).any() for g in (0, 1)):
        return ByUser(whole, groups, None, None)

    def lead(weight_DU: F64) -> F64:
        first, second = (
            (weight_DU @ (gained.values * (group_U == g))) / np.maximum(weight_DU @ (group_U == g), 1)
            for g in (0, 1)
        )
        out: F64 = first - second
        return out

    gap = float(lead(np.ones((1, len(group_U))))[0])
    return ByUser(whole, groups, gap, _interval(lead, len(group_U), resamples, seed))


def _of_users(
    name: str,
    mine: Bools,
    world: AuditWorld,
    score_R: F32 | F64,
    seconds_R: F32 | None,
    half_R: F32 | None,
    k: int,
) -> OfUsers:
    user, watched, duration = world.user[mine], world.watched[mine], world.duration[mine]
    gained = nwtg_at_k(user, score_R[mine], watched, k)
    one = Groups(("all",), np.zeros(len(user), np.int64))
    found = by_group(user, score_R[mine], world.relevant[mine], one, k, resamples=1, seed=0)
    return OfUsers(
        name,
        int(mine.sum()),
        len(gained.values),
        gained.mean,
        None if np.isnan(found.ndcg[0]) else float(found.ndcg[0]),
        int(found.users[0]),
        gauc(user, long_view(watched, duration), score_R[mine]),
        None if seconds_R is None else mae_s(seconds_R[mine], watched),
        None if half_R is None else classified(watched, duration, half_R[mine]),
    )


def classified(watched: F32, duration: F32, half: F32) -> dict[str, Any]:
    """ "More than half is watched", said where its probability is above ½."""
    counts = Confusion.from_columns(watched / duration > 0.5, half > 0.5)
    figures = {name: getattr(counts, name) for name in ("accuracy", "precision", "recall", "f1")}
    return {**figures, "counts": counts._asdict()}


def _cells(group_UK: I64, weight_UK: F64, size: int) -> F64:
    """`[U, G]` sums of the weights by group."""
    users = len(group_UK)
    cell = np.arange(users)[:, None] * size + group_UK
    out: F64 = (
        np.bincount(cell.ravel(), weight_UK.ravel(), users * size).reshape(users, size).astype(np.float64)
    )
    return out


def _interval(figure: Callable[[F64], F64], users: int, resamples: int, seed: int) -> Interval:
    """The middle 95 % of a figure over resampled users."""
    if not users:
        return (float("nan"), float("nan"))
    drawn = draws(users, resamples, np.random.default_rng(seed))
    found = np.concatenate([figure(counts_DU.astype(np.float64)) for counts_DU in drawn])
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)
