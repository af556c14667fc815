"""What the first k rows of each user's list hold: LabelCraft's three objectives as metrics.

A user's candidates are the user's own rows, all of them; nothing unseen is sampled. Only users with more
than k rows count: with k or fewer every order holds the same k rows. Rows are listed by descending
score; equal scores keep the order of the rows.

Source: Bai et al., "LabelCraft: Empowering Short Video Recommendations with Automated Label Crafting",
WSDM 2024, as the poster defines the metrics. Deviation from the released code: it multiplies by log2(i+1)
where the poster divides, which makes its "ideal" order no upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.arrays import F64, I64
from models.errors import BadInput
from models.metrics._rows import Column, Users, numbers, same_length

# Shape suffixes: N rows, U users with more than k rows, K ranks of a list.


@dataclass(frozen=True, slots=True)
class PerUser:
    """One value for each user who has more than k rows."""

    users: Column
    """`[U]` ids, ascending."""
    rows: I64
    """`[U]` exposures of each: the weights of `weighted_mean`."""
    values: F64
    """`[U]`"""
    degenerate: npt.NDArray[np.bool_]
    """`[U]` whether every order of this user's rows is worth 0, so that the ratio was set to 1.0."""

    @property
    def mean(self) -> float | None:
        """Every user counts the same. `None` without users."""
        return float(self.values.mean()) if self.values.size else None

    @property
    def weighted_mean(self) -> float | None:
        """Every exposure counts the same, Σ n_u v_u / Σ n_u. `None` without users."""
        return float(np.average(self.values, weights=self.rows)) if self.values.size else None

    def without_degenerate(self) -> PerUser:
        """Return the users whose ratio depends on the order."""
        keep = ~self.degenerate
        return PerUser(self.users[keep], self.rows[keep], self.values[keep], self.degenerate[keep])


def nwtg_at_k(user: Column, score: Column, watch_time_s: Column, k: int) -> PerUser:
    """Compute the normalised watch-time gain: the seconds in the first k ranks, against the best the rows
    allow.

        WTG@k = Σ_{i<=k} w_i / log2(i + 1)      NWTG@k = WTG@k of the list / WTG@k by descending w

    The best order is over all of the user's rows, not over the k listed. A user who watched nothing is
    degenerate and has 1.0.

    Args:
        user: `[N]` ids, in any order.
        score: `[N]` what lists are sorted by, highest first.
        watch_time_s: `[N]` seconds watched, 0 or more, not clipped.
        k: ranks that count, 1 or more.

    Returns:
        Ratios in [0, 1], one for each user with more than k rows.

    Raises:
        ValueError: `k` is below 1, or columns of different lengths.
        BadInput: a score or watch time is not finite, or a watch time is negative.
    """
    same_length(user=user, score=score, watch_time_s=watch_time_s)
    score, watched = numbers(score=score, watch_time_s=watch_time_s)
    return _normalised_gain(user, score, watched, k, "watch_time_s")


def neg_at_k(user: Column, score: Column, explicit: Column, k: int) -> PerUser:
    """Compute the normalised engagement gain: the explicit feedback in the first k ranks, against the best
    possible.

        EG@k = Σ_{i<=k} e_i / log2(i + 1)       NEG@k = EG@k of the list / EG@k with feedback first

    A user without explicit feedback is degenerate and has exactly 1.0, as in the paper's code. Such users
    are many and lift the mean; `without_degenerate()` leaves them out.

    Args:
        explicit: `[N]` above 0 where the user liked, followed, commented or forwarded; it counts as 1.
        user, score, k: as for `nwtg_at_k`.

    Returns, raises: as `nwtg_at_k`.
    """
    same_length(user=user, score=score, explicit=explicit)
    score, given = numbers(score=score, explicit=explicit)
    return _normalised_gain(user, score, (given > 0).astype(np.float64), k, "explicit")


def ds_at_k(user: Column, score: Column, duration_s: Column, k: int) -> PerUser:
    """Compute the duration spread: sample standard deviation (ddof = 1) of the durations in the first k
    ranks.

    In seconds; higher is more diverse. No user is degenerate.

    Args:
        duration_s: `[N]` lengths of the videos in seconds.
        k: 2 or more: one duration has no spread.
        user, score: as for `nwtg_at_k`.

    Raises:
        ValueError: `k` is below 2, or columns of different lengths.
        BadInput: a score or duration is not finite.
    """
    same_length(user=user, score=score, duration_s=duration_s)
    score, duration = numbers(score=score, duration_s=duration_s)
    if k < 2:
        raise ValueError(f"`k` must be 2 or more for a spread, found {k}")
    users = Users.from_ids(user)
    long = users.rows > k
    values = duration[_first_k(users, score, long, k)].std(axis=1, ddof=1)
    return PerUser(users.ids[long], users.rows[long], values, np.zeros(len(values), bool))


def first_k(user: Column, score: Column, k: int) -> tuple[Column, I64]:
    """Return the rows in the first k ranks of each list, for further metrics.

    Args:
        user, score, k: as for `nwtg_at_k`.

    Returns:
        `[U]` users with more than k rows, ascending, and `[U, K]` their rows, highest score first. Users and
        order are those of `PerUser`.

    Raises:
        ValueError: `k` is below 1, or columns of different lengths.
        BadInput: a score is not finite.
    """
    same_length(user=user, score=score)
    (by,) = numbers(score=score)
    if k < 1:
        raise ValueError(f"`k` must be 1 or more, found {k}")
    users = Users.from_ids(user)
    long = users.rows > k
    return users.ids[long], _first_k(users, by, long, k)


def _normalised_gain(user: Column, score: F64, gain: F64, k: int, name: str) -> PerUser:
    if k < 1:
        raise ValueError(f"`k` must be 1 or more, found {k}")
    if gain.min(initial=0.0) < 0:
        raise BadInput(f"`{name}` must be 0 or more, found {gain.min():g}; repair the log.")
    users = Users.from_ids(user)
    long = users.rows > k
    discount_K = 1.0 / np.log2(np.arange(2, k + 2))
    listed = gain[_first_k(users, score, long, k)] @ discount_K
    ideal = gain[_first_k(users, gain, long, k)] @ discount_K
    degenerate = ideal == 0
    # The division may round a perfect list above 1.
    values = np.minimum(np.divide(listed, ideal, out=np.ones_like(ideal), where=~degenerate), 1.0)
    return PerUser(users.ids[long], users.rows[long], values, degenerate)


def _first_k(users: Users, by: F64, long: npt.NDArray[np.bool_], k: int) -> I64:
    """`[U, K]` rows with the k largest values of `by` of each user in `long`, largest first."""
    rows: I64 = users.order_by(by)[users.starts()[long][:, None] + np.arange(k)]
    return rows
