"""The tables of a dataset folder, and `dataset.json`, which describes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

import polars as pl
from pydantic import BaseModel, ConfigDict

from models.signals import NO_SIGNALS, Signals
from models.video_features import NO_VIDEO_FEATURES, VideoFeatures
from training.data._split import DAY_MS

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

HISTORY_SCHEMA: Final[dict[str, pl.DataType]] = {
    "user_id": pl.String(),
    "video_id": pl.String(),
    "position": pl.Int64(),
    "long_view": pl.Boolean(),
    "like": pl.Boolean(),
}
"""Columns of `history.parquet`: exposures before the log. `position` counts from 1, the latest; flags may be
null: unknown."""

NULLABLE: Final = ("tab", "author_id", "tag")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RowCounts(_Record):
    """Rows of the source, kept and dropped: `read = kept + Σ dropped`."""

    read: int
    kept: int
    dropped: dict[str, int] = {}
    """Rows per reason, e.g. `{"exact_duplicate": 4677, "no_duration": 2793}`."""


class ProfileSchema(_Record):
    """Names of the profile features in `users.parquet`, in the order of the tensors' columns."""

    numbers: tuple[str, ...] = ()
    """Raw values; scaling is learned and lives in the graph."""
    categories: tuple[str, ...] = ()


class CensoredHistory(_Record):
    """Counts of `history.parquet`: exposures before the log whose watch time is unknown."""

    rows: int
    users: int
    long_view_known: int
    like_known: int

    @classmethod
    def from_table(cls, history: pl.DataFrame) -> Self:
        """Count the rows of the table."""
        return cls(
            rows=len(history),
            users=history["user_id"].n_unique(),
            long_view_known=history["long_view"].count(),
            like_known=history["like"].count(),
        )


class Info(_Record):
    """The file `dataset.json`.

    Times are Unix milliseconds. `days` are dates in the dataset's own time zone, which is
    `utc_offset_hours` ahead of UTC.
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
    """The feed in which watch time is fitted and evaluated. `None`: every row."""
    profile: ProfileSchema = ProfileSchema()
    signals: Signals = NO_SIGNALS
    """Own feedback signals, each a column of `interactions.parquet` after those of every log."""
    video_features: VideoFeatures = NO_VIDEO_FEATURES
    """Own features, each a column of `videos.parquet`: a number, a list of texts, or a list of numbers."""
    history: CensoredHistory | None = None
    forgotten_until_ms: int | None = None
    """Users whom the unlearning ledgers name up to then are left out. `None`: no ledger was read."""
    notes: tuple[str, ...] = ()
    """Caveats for readers of the figures, one sentence each."""


@dataclass(frozen=True)
class Tables:
    """The tables of a dataset in memory."""

    interactions: pl.DataFrame
    """Columns and types of `INTERACTION_SCHEMA`, sorted by (timestamp_ms, user_id, video_id)."""
    users: pl.DataFrame
    """`user_id` and the profile features. Users without a row have no known feature."""
    videos: pl.DataFrame
    """`video_id`, `duration_s`, `author_id`, `tag`, and further columns of the source."""
    info: Info
    history: pl.DataFrame | None = None
    """Columns and types of `HISTORY_SCHEMA`."""


def in_order(interactions: pl.DataFrame, signals: Signals = NO_SIGNALS) -> pl.DataFrame:
    """Return the columns of a log's `interaction_schema` in their types, oldest rows first."""
    return interactions.select(
        pl.col(name).cast(kind) for name, kind in interaction_schema(signals).items()
    ).sort("timestamp_ms", "user_id", "video_id", maintain_order=True)


def interaction_schema(signals: Signals) -> dict[str, pl.DataType]:
    """Return the columns of `interactions.parquet` of a log with these signals."""
    return INTERACTION_SCHEMA | {
        **dict.fromkeys(signals.flags, pl.Boolean()),
        **dict.fromkeys(signals.numbers, pl.Float64()),
    }


class LogExtent(_Record):
    """Size and time span of a log: the members of `Info` that are counted, and the number of rows."""

    rows: int
    users: int
    videos: int
    first_timestamp_ms: int
    last_timestamp_ms: int
    days: tuple[str, ...]
    """Dates with rows, ascending, as `YYYY-MM-DD` in the dataset's time zone."""

    @classmethod
    def from_log(cls, log: pl.LazyFrame, utc_offset_hours: float) -> Self:
        """Measure a log that need not fit into memory.

        Args:
            log: `user_id`, `video_id`, `timestamp_ms`; at least one row.
            utc_offset_hours: how far the dataset's time zone is ahead of UTC.
        """
        counts = log.select(
            rows=pl.len(),
            users=pl.col("user_id").n_unique(),
            videos=pl.col("video_id").n_unique(),
            first_timestamp_ms=pl.col("timestamp_ms").min(),
            last_timestamp_ms=pl.col("timestamp_ms").max(),
        )
        offset_ms = round(utc_offset_hours * 3_600_000)
        local_day = ((pl.col("timestamp_ms") + offset_ms) // DAY_MS).unique().sort()
        epoch_days = log.select(day=local_day).collect(engine="streaming")["day"]
        epoch = datetime(1970, 1, 1, tzinfo=UTC)
        return cls(
            **counts.collect(engine="streaming").row(0, named=True),
            days=tuple((epoch + timedelta(days=day)).strftime("%Y-%m-%d") for day in epoch_days),
        )

    def as_info(self) -> dict[str, Any]:
        """Return the members as arguments of `Info`, whose `rows` has the dropped ones too."""
        return self.model_dump(exclude={"rows"})
