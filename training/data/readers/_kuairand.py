"""KuaiRand, all releases: columns, checks of the published log, and its conversion to interactions."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from models.errors import BadInput
from models.schema import FLAGS, MAX_DURATION_S, MAX_WATCH_TIME_S
from training.data._checks import (
    check_amounts,
    check_milliseconds,
    check_same_unit,
    check_timestamps,
    refuse_first,
    refuse_repeats,
)
from training.data._files import Kind, read_columns, without_decimals
from training.data._split import DAY_MS
from training.data._tables import in_order

UTC_OFFSET_HOURS: Final = 8.0
MAIN_TAB: Final = "1"
"""The single-column feed, three quarters of the rows: watch time is fitted and evaluated there."""

HOME: Final = "https://kuairand.com"
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
"""Not fitted on; kept in `videos.parquet` under the authors' names."""

_MISSING_STREAMER: Final = -124

BY_USER: Final = 100
"""With fewer users, long runs of one user's rows do not show how a file is sorted."""


def check_rows(log: pl.DataFrame, file: str) -> None:
    """Refuse a log, or a part of one, with an impossible row.

    Args:
        log: the columns of `LOG_KINDS`, as published.
        file: the file's name, for the message.

    Raises:
        BadInput: the first such row is named.
    """
    for name in LOG_KINDS:
        if name != "duration_ms":
            refuse_first(log, pl.col(name).is_null(), file, name, "is empty; is the file cut off?")
    for name in LOG_KINDS:
        if name.startswith("is_"):
            refuse_first(log, ~pl.col(name).is_in([0, 1]), file, name, "must be 0 or 1")
    check_timestamps(log, "time_ms", file)
    check_amounts(log, "play_time_ms", file, high=MAX_WATCH_TIME_S * 1000, unit="ms")
    check_amounts(log, "duration_ms", file, high=MAX_DURATION_S * 1000, unit="ms")
    _check_date(log, file)


def check_units(log: pl.DataFrame, file: str) -> None:
    """Refuse a log whose times are not milliseconds, by their medians, so give it many rows.

    Raises:
        BadInput: names the column and the likely unit.
    """
    check_same_unit(log, "play_time_ms", "duration_ms", file)
    check_milliseconds(log, "duration_ms", file)


def _check_date(log: pl.DataFrame, file: str) -> None:
    """Refuse rows whose `time_ms` and `date`, hours apart at most, differ by more than a day."""
    day = (pl.col("time_ms") + round(UTC_OFFSET_HOURS * 3_600_000)) // DAY_MS
    dated = pl.col("date").cast(pl.String).str.to_date("%Y%m%d", strict=False).cast(pl.Int64)
    refuse_first(log, dated.is_null(), file, "date", "is no date (YYYYMMDD)")
    refuse_first(log, (day - dated).abs() > 1, file, "time_ms", "is more than a day away from its `date`")


def check_order(log: pl.DataFrame, file: str) -> None:
    """Refuse a file in which a user's clock runs backwards.

    Rows are sorted anyway. Refused are the likely causes of disorder: a shuffled file, shifted columns, or
    concatenated files of several machines. Two orders pass:

    * each user's rows ascend in time (a log as it was written, or sorted by time);
    * the file is sorted by user, as the authors' archive is, with the rows of one user in any order. It
      counts as such if it has at least `BY_USER` users and most rows follow a row of the same user, which
      holds neither for a log in time order nor for a shuffled file.

    Args:
        log: `user_id` and `time_ms` in the order of the file.
        file: its name, for the message.

    Raises:
        BadInput: names the first row that is earlier than one of the same user above it.
    """
    user = log["user_id"]
    above = log.select(pl.col("time_ms").shift(1).over("user_id").alias("above"))["above"]
    backwards = (log["time_ms"] < above).fill_null(False)
    row = backwards.arg_max()
    if row is None or not backwards[row]:
        return
    runs = 1 + int((user != user.shift(1)).fill_null(False).sum())
    if user.n_unique() >= BY_USER and 2 * runs < len(log):
        return
    raise BadInput(
        f"{file}, row {row + 1:,}: time goes backwards: user {user[row]} has {log['time_ms'][row]} after "
        f"{above[row]} ({int(backwards.sum()):,} such rows). Is the file shuffled? Sort it by time_ms."
    )


def exposures(raw: pl.DataFrame, videos: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Convert a log to seconds, drop duplicates, and count the dropped rows by reason.

    Args:
        raw: the columns of `LOG_KINDS`. Duplicates share their time, so days may be given one by one.
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
    """Read `user_features_*`: `user_id`, `NUMBERS` and `CATEGORIES`, sorted by user.

    Raises:
        BadInput: as `read_columns`, or a user is listed twice.
    """
    users = read_columns(path, USER_KINDS)
    refuse_repeats(users, "user_id", path.name)
    return profile_of(users).sort("user_id")


def profile_of(users: pl.DataFrame) -> pl.DataFrame:
    """Return profile features as the dataset keeps them: codes become categories.

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
    """Convert `video_features_basic_*` to seconds.

    Args:
        videos: the columns of `VIDEO_KINDS` as published, and those of `MORE_OF_VIDEOS` that exist.
    """
    duration = pl.col("video_duration")
    return videos.select(
        "video_id",
        pl.when(duration > 0).then(duration / 1000).alias("duration_s"),
        "author_id",
        without_decimals(pl.col("tag").str.split(",").list.first()).alias("tag"),
        pl.col("tag").alias("tags"),
        *(name for name in MORE_OF_VIDEOS if name in videos.columns),
    )
