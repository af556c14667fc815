"""KuaiRand: a user's exposures before the log, and what they say as profile features.

Some releases come with earlier exposures without watch times. These cannot become events, but they show how
active a user is and how often a view was long. As a history (`history.parquet`) and as profile features
(`users.parquet`) they reach the ranker in training the same way as in serving (`PUT /users`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from training.data._files import Kind, find, read_columns

NUMBERS_BEFORE: Final = ("exposures_before", "long_view_before", "like_before")
"""Number of exposures, and the shares of the latest of them that were long views and liked."""

SHRINKAGE: Final = 5.0
"""Pseudo-exposures of the overall share that every user's share is shrunk with."""


def reaching_into(folder: Path, log: pl.DataFrame) -> pl.DataFrame | None:
    """Return the users of whom an exposure before the log is not before their first in the log.

    Nothing of these (three in Pure) is used: an input must not know the outcome of a row that it helps to
    predict.

    Args:
        folder: where `user_history_to_*` may lie.
        log: `user_id`, `timestamp_ms`.

    Returns:
        `user_id`, or `None` if the folder lacks the file: then this is known of no user.
    """
    sequences = find(folder, "user_history_to_*")
    if not sequences:
        return None
    last = pl.concat(
        [read_columns(path, {"user_id": Kind.ID, "last_time_ms": Kind.WHOLE}) for path in sequences]
    )
    first = log.group_by("user_id").agg(first_ms=pl.col("timestamp_ms").min())
    overlapping = last.join(first, on="user_id").filter(pl.col("last_time_ms") >= pl.col("first_ms"))
    return overlapping.select("user_id")


def before_the_log(folder: Path, log: pl.DataFrame) -> pl.DataFrame | None:
    """Compute `NUMBERS_BEFORE` for every user whose earlier exposures all precede the log's.

    Args:
        folder: where `history_exposures_to_*` and `user_history_to_*` may lie.
        log: `user_id`, `timestamp_ms`.

    Returns:
        `user_id` and `NUMBERS_BEFORE`, or `None` if the folder lacks one of the files.
    """
    exposures, overlapping = find(folder, "history_exposures_to_*"), reaching_into(folder, log)
    if not exposures or overlapping is None:
        return None
    kinds = {
        "user_id": Kind.ID,
        "history_len": Kind.WHOLE,
        "long_view": Kind.WHOLE,
        "is_like": Kind.WHOLE,
    }
    exposure_table = pl.concat([read_columns(path, kinds) for path in exposures])
    return (
        exposure_table.join(overlapping, on="user_id", how="anti")
        .with_columns(pl.col("long_view", "is_like").mean().name.suffix("_of_all"))
        .group_by("user_id")
        .agg(
            exposures_before=pl.col("history_len").max().cast(pl.Float64),
            long_view_before=_share("long_view"),
            like_before=_share("is_like"),
        )
        .sort("user_id")
    )


def _share(name: str) -> pl.Expr:
    """Mean of a flag over the known entries of a user, shrunk towards the overall mean."""
    known = pl.col(name).drop_nulls()
    return (known.sum() + SHRINKAGE * pl.col(f"{name}_of_all").first()) / (known.len() + SHRINKAGE)
