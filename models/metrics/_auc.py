"""AUC and XAUC: how often a pair of exposures is in the right order, over all rows and within each user."""

from __future__ import annotations

import numpy as np

from models.metrics._pairs import Ties, count_pairs, row_pairs
from models.metrics._rows import Column, Users, numbers, same_length


def auc(label: Column, score: Column) -> float | None:
    """Return the probability that a random positive row scores above a random negative one; a tie counts ½.

    Args:
        label: `[N]`; above 0 is positive.
        score: `[N]`

    Returns:
        A number in [0, 1]; `None` without rows of both classes.

    Raises:
        BadInput: a value is not finite.
    """
    label, score = numbers(label=label, score=score)
    return xauc(score, label > 0)


def gauc(user: Column, label: Column, score: Column) -> float | None:
    """Compute the AUC within each user, averaged with the user's exposures as weights.

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
    label, score = numbers(label=label, score=score)
    return xgauc(user, score, label > 0)


def xauc(prediction: Column, target: Column, ties: Ties = "comparable") -> float | None:
    """Return the probability that two rows are ordered by `prediction` as they are by `target`.

    Three conventions are in circulation and differ in the second digit, because watch times tie:

    * `comparable`: (concordant + ½ prediction ties) / pairs whose targets differ. A constant predictor
      has 0.5. The one we report (as HEGM's code does).
    * `strict`: concordant / all pairs. Target ties score 0 (as in TPM's, GR's and EGMN's code).
    * `lenient`: (concordant + ½ prediction ties + target ties) / all pairs. Target ties score 1 (as in
      Kuaishou's D2Q code and CWM's).

    Deviation: in the released code of the last two a prediction tie scores whatever an unstable sort
    makes of it. Here it scores 0 in `strict`, and in `lenient` ½, what a random order gives on average.

    Args:
        prediction: `[N]` any score; only its order matters.
        target: `[N]` what was watched, in any unit.
        ties: the convention.

    Returns:
        A number in [0, 1]; `None` when there is no pair to count.

    Raises:
        ValueError: another convention, or columns of different lengths.
        BadInput: a value is not finite.

    Sources: Zhan et al., "Deconfounding Duration Bias in Watch-time Prediction for Video Recommendation",
    KDD 2022; the conventions are those of the repositories named.
    """
    return count_pairs(prediction, target).xauc(ties)


def xgauc(user: Column, prediction: Column, target: Column) -> float | None:
    """Compute the XAUC within each user, averaged with the user's exposures as weights.

        XGAUC = Σ_u n_u XAUC_u / Σ_u n_u      over users with a pair of rows whose targets differ

    Within a user, so that an order gains nothing from knowing which users watch long.

    Args:
        user: `[N]` ids, in any order.
        prediction, target: as for `xauc`, by the `comparable` convention.

    Returns:
        A number in [0, 1]; `None` when no user has such a pair.

    Raises:
        ValueError: columns of different lengths.
        BadInput: a value is not finite.

    Source: Zhao et al., "Counteracting Duration Bias in Video Recommendation via Counterfactual Watch Time",
    KDD 2024.
    """
    same_length(user=user, prediction=prediction, target=target)
    users = Users.from_ids(user)
    pairs = row_pairs(prediction, target, users.index)
    right, comparable = users.sums(pairs.right), users.sums(pairs.comparable)
    defined = comparable > 0
    if not defined.any():
        return None
    return float(np.average(right[defined] / comparable[defined], weights=users.rows[defined]))
