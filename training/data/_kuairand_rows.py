"""What KuaiRand's releases have in common: their columns, and how they are checked and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from models.schema import FLAGS, MAX_DURATION_S, MAX_WATCH_TIME_S
from training.data._checks import (
    check_amounts,
    check_milliseconds,
    check_same_unit,
    check_timestamps,
    refuse_first,
    refuse_repeats,
)
from training.data._source import Kind, read_columns
from training.data._split import DAY_MS
from training.data._tables import in_order

UTC_OFFSET_HOURS: Final = 8.0
MAIN_TAB: Final = "1"
"""The single-column feed, three quarters of the rows: watch time is trained and judged there."""

LICENCE: Final = "CC BY-SA 4.0"
CITATION: Final = (
    "Gao et al., KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed Videos, "
    "CIKM 2022, doi 10.1145/3511808.3557624"
)

NUMBERS: Final = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
CATEGORIES: Final = (
    "user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author",
    *(f"onehot_feat{i}" for i in range(18) if i not in (3, 8)),
)  # fmt: skip
"""`onehot_feat3` and `onehot_feat8` are left out: 1,471 and 454 values over 27,285 users are nearly ids."""

LOG_KINDS: Final = {
    "user_id": Kind.ID, "video_id": Kind.ID, "date": Kind.WHOLE, "time_ms": Kind.WHOLE,
    "is_like": Kind.WHOLE, "is_follow": Kind.WHOLE, "is_comment": Kind.WHOLE, "is_forward": Kind.WHOLE,
    "is_hate": Kind.WHOLE, "is_profile_enter": Kind.WHOLE,
    "play_time_ms": Kind.NUMBER, "duration_ms": Kind.NUMBER, "tab": Kind.ID,
}  # fmt: skip
USER_KINDS: Final = {
    "user_id": Kind.ID,
    **{name: Kind.NUMBER for name in (*NUMBERS, *CATEGORIES) if name != "user_active_degree"},
    "user_active_degree": Kind.TEXT,
}
VIDEO_KINDS: Final = {
    "video_id": Kind.ID,
    "author_id": Kind.ID,
    "video_duration": Kind.NUMBER,
    "tag": Kind.TEXT,
}
MORE_OF_VIDEOS: Final = {
    "video_type": Kind.TEXT, "upload_type": Kind.TEXT, "upload_dt": Kind.TEXT, "server_width": Kind.NUMBER,
    "server_height": Kind.NUMBER, "music_id": Kind.ID, "music_type": Kind.NUMBER,
}  # fmt: skip
"""Not trained on; kept under the authors' names for whoever looks into the catalogue."""

_MISSING_STREAMER: Final = -124


def check_rows(log: pl.DataFrame, where: str) -> None:
    """Refuse a log, or a part of one, with an impossible row.

    Args:
        log: the columns of `LOG_KINDS`, as published.
        where: the file's name, for the message.

    Raises:
        BadInput: the first such row is named.
    """
    for name in LOG_KINDS:
        if name != "duration_ms":
            refuse_first(log, pl.col(name).is_null(), where, name, "is empty; is the file cut off?")
    for name in LOG_KINDS:
        if name.startswith("is_"):
            refuse_first(log, ~pl.col(name).is_in([0, 1]), where, name, "must be 0 or 1")
    check_timestamps(log, "time_ms", where)
    check_amounts(log, "play_time_ms", where, high=MAX_WATCH_TIME_S * 1000, unit="ms")
    check_amounts(log, "duration_ms", where, high=MAX_DURATION_S * 1000, unit="ms")
    _check_date(log, where)


def check_units(log: pl.DataFrame, where: str) -> None:
    """Refuse a log whose times are not milliseconds. Told by medians, so of many rows.

    Raises:
        BadInput: says which column looks like which unit.
    """
    check_same_unit(log, "play_time_ms", "duration_ms", where)
    check_milliseconds(log, "duration_ms", where)


def _check_date(log: pl.DataFrame, where: str) -> None:
    """`time_ms` and `date` come from two clocks, hours apart at most: a day apart is a broken row."""
    day = (pl.col("time_ms") + round(UTC_OFFSET_HOURS * 3_600_000)) // DAY_MS
    dated = pl.col("date").cast(pl.String).str.to_date("%Y%m%d", strict=False).cast(pl.Int64)
    refuse_first(log, dated.is_null(), where, "date", "is no date (YYYYMMDD)")
    refuse_first(log, (day - dated).abs() > 1, where, "time_ms", "is more than a day away from its `date`")


def exposures(raw: pl.DataFrame, videos: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """The log in seconds, without copies, and how many rows were dropped for which reason.

    Args:
        raw: the columns of `LOG_KINDS`. Copies share their time, so days may be given one by one.
        videos: `video_id`, `author_id`, `tag`, `duration_s` of (at least) its videos.

    Returns:
        The columns of `INTERACTION_SCHEMA`, oldest first.
    """
    flags = [f"is_{name}" for name in FLAGS]
    once = raw.drop("date").unique(maintain_order=True)
    merged = once.group_by("user_id", "video_id", "time_ms", "tab", maintain_order=True).agg(
        pl.col("play_time_ms").max(), pl.col("duration_ms").max(), pl.col(flags).max()
    )
    known = videos.select("video_id", "author_id", "tag", known_s="duration_s")
    logged_s = pl.col("duration_ms") / 1000
    log = merged.join(known, on="video_id", how="left").select(
        "user_id",
        "video_id",
        "tab",
        "author_id",
        "tag",
        timestamp_ms="time_ms",
        watch_time_s=pl.col("play_time_ms") / 1000,
        duration_s=pl.when(logged_s > 0).then(logged_s).otherwise("known_s"),
        **{name: pl.col(f"is_{name}") == 1 for name in FLAGS},
    )
    kept = log.filter(pl.col("duration_s") > 0)
    dropped = {
        "exact_duplicate": len(raw) - len(once),
        "logged_twice": len(once) - len(merged),
        "no_duration": len(log) - len(kept),
    }
    return in_order(kept), dropped


def read_users(path: Path) -> pl.DataFrame:
    """`user_features_*`: `user_id`, `NUMBERS` and `CATEGORIES`, by user.

    Raises:
        BadInput: as `read_columns`, or a user is listed twice.
    """
    users = read_columns(path, USER_KINDS)
    refuse_repeats(users, "user_id", path.name)
    return profile_of(users).sort("user_id")


def profile_of(users: pl.DataFrame) -> pl.DataFrame:
    """Profile features as published -> as they are kept: codes are spelled as categories.

    Args:
        users: `user_id` and some or all of `NUMBERS` and `CATEGORIES`.
    """
    categories = [name for name in CATEGORIES if name in users.columns]
    coded = [name for name in categories if name != "user_active_degree"]
    if "is_live_streamer" in coded:
        streamer = pl.col("is_live_streamer")
        users = users.with_columns(
            pl.when(streamer != _MISSING_STREAMER).then(streamer).alias("is_live_streamer")
        )
    return users.select(
        "user_id",
        *(name for name in NUMBERS if name in users.columns),
        *(pl.col(name).cast(pl.Int64).cast(pl.String) if name in coded else name for name in categories),
    )


def catalogue(videos: pl.DataFrame) -> pl.DataFrame:
    """`video_features_basic_*` in seconds.

    Args:
        videos: the columns of `VIDEO_KINDS` as published, and of `MORE_OF_VIDEOS` what there is.
    """
    duration = pl.col("video_duration")
    return videos.select(
        "video_id",
        pl.when(duration > 0).then(duration / 1000).alias("duration_s"),
        "author_id",
        pl.col("tag").str.split(",").list.first().alias("tag"),
        pl.col("tag").alias("tags"),
        *(name for name in MORE_OF_VIDEOS if name in videos.columns),
    )
