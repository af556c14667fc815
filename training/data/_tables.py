"""What a reader hands over and `DATA` holds: three tables and the note that says where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

import polars as pl
from pydantic import BaseModel, ConfigDict

INTERACTIONS: Final = "interactions.parquet"
USERS: Final = "users.parquet"
VIDEOS: Final = "videos.parquet"
HISTORY: Final = "history.parquet"
INFO: Final = "dataset.json"

INTERACTION_SCHEMA: Final[dict[str, pl.DataType]] = {
    "user_id": pl.String(),
    "video_id": pl.String(),
    "timestamp_ms": pl.Int64(),
    "watch_time_s": pl.Float64(),
    "duration_s": pl.Float64(),
    "like": pl.Boolean(),
    "follow": pl.Boolean(),
    "comment": pl.Boolean(),
    "forward": pl.Boolean(),
    "hate": pl.Boolean(),
    "profile_enter": pl.Boolean(),
    "tab": pl.String(),
    "author_id": pl.String(),
    "tag": pl.String(),
}
"""Columns of `interactions.parquet`, in this order. `tab`, `author_id` and `tag` may be null: unknown."""

NULLABLE: Final = ("tab", "author_id", "tag")


class _Note(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RowCounts(_Note):
    """What became of the rows of the source. `read = kept + Σ dropped`."""

    read: int
    kept: int
    dropped: dict[str, int] = {}
    """Reason -> rows, e.g. `{"exact_duplicate": 4677, "no_duration": 2793}`."""


class ProfileSchema(_Note):
    """Names of the profile features in `users.parquet`, in the order of the tensors' columns."""

    numbers: tuple[str, ...] = ()
    """Raw values; scaling is learned and lives in the graph."""
    categories: tuple[str, ...] = ()


class CensoredHistory(_Note):
    """What `history.parquet` holds: exposures before the log, of which the watch time is not known."""

    rows: int
    users: int
    long_view_known: int
    like_known: int

    @classmethod
    def of(cls, history: pl.DataFrame) -> Self:
        """Count the table's rows."""
        return cls(
            rows=len(history),
            users=history["user_id"].n_unique(),
            long_view_known=history["long_view"].count(),
            like_known=history["like"].count(),
        )


class Info(_Note):
    """The file `dataset.json`.

    Times are Unix milliseconds; `days` are dates in the data set's own time zone, `utc_offset_hours`
    ahead of UTC.
    """

    dataset: str
    source: str
    licence: str
    citation: str
    rows: RowCounts
    users: int
    videos: int
    first_timestamp_ms: int
    last_timestamp_ms: int
    utc_offset_hours: float
    days: tuple[str, ...]
    main_tab: str | None
    """Where watch time is trained and judged; `None`: on every row."""
    profile: ProfileSchema = ProfileSchema()
    history: CensoredHistory | None = None
    notes: tuple[str, ...] = ()
    """What a reader of the figures should know, one sentence each."""


@dataclass(frozen=True)
class Tables:
    """A data set in memory, as readers return it and as `load` finds it."""

    interactions: pl.DataFrame
    """Columns and types of `INTERACTION_SCHEMA`, sorted by (timestamp_ms, user_id, video_id)."""
    users: pl.DataFrame
    """`user_id` and the profile features; no row means that nothing is known of anybody."""
    videos: pl.DataFrame
    """`video_id`, `duration_s`, `author_id`, `tag`, and what else the source tells."""
    info: Info
    history: pl.DataFrame | None = None
    """`user_id, video_id, position` (1 = latest), `long_view`, `like` (null = unknown)."""


def in_order(interactions: pl.DataFrame) -> pl.DataFrame:
    """The rows as `interactions.parquet` holds them: only the known columns, oldest first."""
    return interactions.select(pl.col(name).cast(kind) for name, kind in INTERACTION_SCHEMA.items()).sort(
        "timestamp_ms", "user_id", "video_id", maintain_order=True
    )


def local_days(timestamp_ms: pl.Series, utc_offset_hours: float) -> tuple[str, ...]:
    """The dates on which there are rows, ascending, as `YYYY-MM-DD` in the data set's time zone."""
    offset_ms = round(utc_offset_hours * 3_600_000)
    epoch_day = ((timestamp_ms + offset_ms) // 86_400_000).unique().sort()
    zero = datetime(1970, 1, 1, tzinfo=UTC)
    return tuple((zero + timedelta(days=day)).strftime("%Y-%m-%d") for day in epoch_day)
