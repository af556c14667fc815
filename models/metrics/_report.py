"""Every figure that is reported about one window, in one call."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.metrics._at_k import PerUser, ds_at_k, neg_at_k, nwtg_at_k
from models.metrics._auc import gauc
from models.metrics._pairs import count_pairs
from models.metrics._pointwise import mae_s, rmse_s
from models.metrics._rows import Column, numbers, same_length

CUTS: Final = (5, 10)
"""The k of every `@k` figure."""

Figures = dict[str, float | int | None]
"""Figures by name; `None` is undefined. Writes as JSON as it is."""


def report(
    *,
    user: Column,
    watch_time_s: Column,
    duration_s: Column,
    explicit: Column,
    long_view: Column,
    predicted_s: Column,
    score: Column,
) -> Figures:
    """Evaluate predicted seconds and a ranking on one window of a log.

    | key | meaning |
    | --- | --- |
    | `rows`, `users` | exposures, and how many users they are of |
    | `mae_s`, `rmse_s` | error of `predicted_s`, seconds |
    | `xauc` | order of `predicted_s`, `comparable`; also `xauc_strict`, `xauc_lenient` |
    | `gauc_long_view` | AUC of `score` for `long_view` within users, weighted by exposures |
    | `users@k` | users with more than k exposures: whom the following figures are of |
    | `nwtg@k`, `neg@k`, `ds@k` | means **weighted by exposures**, as LabelCraft selects its models |
    | `nwtg@k_plain`, `neg@k_plain`, `ds@k_plain` | the same with every user counted once |
    | `neg@k_positive_users` | `neg@k` of users with any explicit feedback; the others count 1.0 in `neg@k` |
    | `users@k_positive` | how many those are |

    LabelCraft's paper does not say which of the two means its table holds; hence both.

    Args:
        user: `[N]` ids, in any order.
        watch_time_s: `[N]` seconds watched, not clipped.
        duration_s: `[N]` lengths of the videos, seconds.
        explicit: `[N]` above 0 where the user gave explicit feedback.
        long_view: `[N]` above 0 where the view was long, see `long_view`.
        predicted_s: `[N]` predicted watch time, seconds.
        score: `[N]` what each user's list is sorted by, highest first.

    Returns:
        The figures above for k in `CUTS`; every key is there for any N, 0 included.

    Raises:
        ValueError: columns of different lengths.
        BadInput: a value is not finite, or a watch time is negative.
    """
    same_length(user=user, score=score)
    watch_time_s, duration_s, explicit, long_view, predicted_s, score = numbers(
        watch_time_s=watch_time_s,
        duration_s=duration_s,
        explicit=explicit,
        long_view=long_view,
        predicted_s=predicted_s,
        score=score,
    )
    # Rows are grouped seven times below, and numbers are grouped faster than ids.
    ids, user = np.unique(user, return_inverse=True)
    pairs = count_pairs(predicted_s, watch_time_s)
    out: Figures = {
        "rows": len(user),
        "users": len(ids),
        "mae_s": mae_s(predicted_s, watch_time_s),
        "rmse_s": rmse_s(predicted_s, watch_time_s),
        "xauc": pairs.xauc(),
        "xauc_strict": pairs.xauc("strict"),
        "xauc_lenient": pairs.xauc("lenient"),
        "gauc_long_view": gauc(user, long_view, score),
    }
    for k in CUTS:
        engagement = neg_at_k(user, score, explicit, k)
        positive = engagement.without_degenerate()
        out[f"users@{k}"] = len(engagement.users)
        out |= _means(f"nwtg@{k}", nwtg_at_k(user, score, watch_time_s, k))
        out |= _means(f"neg@{k}", engagement)
        out |= _means(f"ds@{k}", ds_at_k(user, score, duration_s, k))
        out[f"neg@{k}_positive_users"] = positive.weighted_mean
        out[f"users@{k}_positive"] = len(positive.users)
    return out


def _means(key: str, values: PerUser) -> Figures:
    return {key: values.weighted_mean, f"{key}_plain": values.mean}
