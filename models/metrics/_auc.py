"""Area under the ROC curve: over all rows, and within each user."""

from __future__ import annotations

import numpy as np

from models.arrays import F64
from models.metrics._rows import Column, Users, numbers, same_length


def auc(label: Column, score: Column) -> float | None:
    """Probability that a random positive row scores above a random negative one; a tie counts ½.

    Args:
        label: `[N]`; above 0 is positive.
        score: `[N]`

    Returns:
        A number in [0, 1]; `None` without rows of both classes.

    Raises:
        BadInput: a value is not finite.
    """
    everybody = np.zeros(np.shape(label), np.int64)
    return gauc(everybody, label, score)


def gauc(user: Column, label: Column, score: Column) -> float | None:
    """AUC within each user, averaged with the user's exposures as weights.

        GAUC = Σ_u n_u AUC_u / Σ_u n_u      over users with rows of both classes

    Weighted by exposures as GradCraft and DVR do; D2Co and CWM weight by positives instead.

    Args:
        user: `[N]` ids, in any order.
        label: `[N]`; above 0 is positive.
        score: `[N]`

    Returns:
        A number in [0, 1]; `None` when no user has both classes.

    Raises:
        BadInput: a label or score is not finite.
    """
    same_length(user=user, label=label, score=score)
    label, score = numbers(label=label, score=score)
    users = Users.of(user)
    positive = (label > 0).astype(np.float64)
    positives = users.sums(positive)
    negatives = users.rows - positives
    both = (positives > 0) & (negatives > 0)
    if not both.any():
        return None
    # Mann-Whitney: the positives' ranks, less those they would hold if they were the lowest rows.
    wins = users.sums(positive * _ranks(users, score)) - positives * (positives + 1) / 2
    within = wins[both] / (positives[both] * negatives[both])
    return float(np.average(within, weights=users.rows[both]))


def _ranks(users: Users, score: F64) -> F64:
    """`[N]` rank of each row within its user, lowest score first, from 1; ties share the mean rank."""
    order = np.lexsort((score, users.index))
    index, value = users.index[order], score[order]
    starts = np.ones(len(order), bool)
    starts[1:] = (index[1:] != index[:-1]) | (value[1:] != value[:-1])
    first = np.flatnonzero(starts)
    length = np.diff(first, append=len(order))
    shared = first + (length + 1) / 2 - users.starts()[index[first]]
    out = np.empty(len(order))
    out[order] = np.repeat(shared, length)
    return out
