"""What each user did in a span of time, in sums: the rows that arms are compared by."""

from __future__ import annotations

from typing import Final, NamedTuple

import polars as pl

from models.metrics import SKIP_S
from models.schema import FLAGS, SESSION_GAP_MS

DAY_MS: Final = 24 * 60 * 60 * 1000


class Metric(NamedTuple):
    """A figure of the report: a mean over users, or a ratio of two sums over users."""

    name: str
    numerator: str
    """A column of `user_sums`."""
    denominator: str | None = None
    """Another one; without it users are counted."""
    higher_is_better: bool = True


METRICS: Final = (
    Metric("watch_time_s", "watch_time_s"),
    Metric("sessions", "sessions"),
    Metric("days_active", "days_active"),
    Metric("exposures", "exposures"),
    *(Metric(flag, flag, higher_is_better=flag != "hate") for flag in FLAGS),
    Metric("skip_rate", "skips", "exposures", higher_is_better=False),
)
"""Per user, but the skip rate per exposure. Sessions and active days are usage of the app."""

LABEL: Final = Metric("label", "label")
"""Where exposures have one; the sum of a user's."""


def user_sums(exposures: pl.DataFrame) -> pl.DataFrame:
    """Sum the exposures of each user.

    Args:
        exposures: `user_id`, `timestamp_ms`, `watch_time_s`, `duration_s` and the flags; maybe `label`.

    Returns:
        A row for each user with exposures: `user_id`, `exposures`, `watch_time_s`, `skips`, `sessions`,
        `days_active` (UTC), the flags, and `label`.
    """
    pause = pl.col("timestamp_ms").diff().over("user_id")
    return (
        exposures.sort("user_id", "timestamp_ms")
        .with_columns(
            begins=pause.is_null() | (pause > SESSION_GAP_MS),
            skip=pl.col("watch_time_s") < pl.min_horizontal("duration_s", pl.lit(SKIP_S)),
        )
        .group_by("user_id", maintain_order=True)
        .agg(
            pl.len().cast(pl.Float64).alias("exposures"),
            pl.col("watch_time_s").sum().cast(pl.Float64),
            pl.col("skip").sum().cast(pl.Float64).alias("skips"),
            pl.col("begins").sum().cast(pl.Float64).alias("sessions"),
            (pl.col("timestamp_ms") // DAY_MS).n_unique().cast(pl.Float64).alias("days_active"),
            *(
                pl.col(name).sum().cast(pl.Float64)
                for name in (*FLAGS, LABEL.name)
                if name in exposures.columns
            ),
        )
    )
