"""KuaiRec: the published CSV files, or the same tables as parquet.

Gao et al., "KuaiRec: A Fully-Observed Dataset and Insights for Evaluating Recommender Systems", CIKM 2022,
doi 10.1145/3511808.3557220. Findings and how the reader treats them:

* `big_matrix` comes from the regular feed; `small_matrix` showed almost all of its videos to almost all of
  its users. Either or both are read, and `tab` keeps them apart: watch time is fitted and evaluated on
  `big_matrix` if it is there;
* `play_duration` and `video_duration` are milliseconds, `timestamp` is Unix seconds with a fraction. Rows
  without a `timestamp` cannot be ordered and are dropped; `time` and `date` repeat it and are not read;
* explicit feedback is not published: every flag is false, `dataset.json` says so, and methods that need it
  refuse the log;
* duplicate rows are dropped; a user, video and timestamp logged twice keeps the longest watch time;
* optional tables: `item_categories.feat` holds a video's tags (the first becomes `tag`),
  `item_daily_features` its author and whether it is an advertisement (`video_type` AD), `user_features` the
  profile. Daily counts of plays and likes are not read, since they cover the test days too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from models.errors import BadInput
from models.schema import FLAGS, MAX_DURATION_S, MAX_WATCH_TIME_S
from training.data._checks import (
    EARLIEST_MS,
    check_amounts,
    check_joins,
    check_milliseconds,
    check_same_unit,
    refuse_first,
    refuse_repeats,
)
from training.data._files import Kind, find, find_one, read_columns, release_folder
from training.data._tables import Info, LogExtent, ProfileSchema, RowCounts, Tables, in_order
from training.data.readers._kuairand import CATEGORIES, NUMBERS, USER_KINDS, profile_of

HOME: Final = "https://kuairec.com"
UTC_OFFSET_HOURS: Final = 8.0
BIG: Final = "big_matrix"
SMALL: Final = "small_matrix"

_MATRIX: Final = {
    "user_id": Kind.ID, "video_id": Kind.ID, "timestamp": Kind.MOMENT,
    "play_duration": Kind.NUMBER, "video_duration": Kind.NUMBER,
}  # fmt: skip
_DAILY: Final = {"video_id": Kind.ID, "author_id": Kind.ID, "video_type": Kind.TEXT}
_LATEST_S: Final = EARLIEST_MS / 10
"""Seconds of the year 4969. Larger values are milliseconds."""


def read_kuairec(source: Path | None, seed: int) -> Tables:
    """Read one or both matrices and the tables beside them.

    Args:
        source: the unpacked archive, its `data/` folder, or a folder of the same tables as parquet.
        seed: unused; nothing is sampled.

    Raises:
        BadInput: as `training.data.prepare`.
    """
    del seed
    folder = release_folder(
        "kuairec", source, ("data", "KuaiRec 2.0/data", "KuaiRec/data"), (BIG, SMALL), HOME
    )
    files = [find_one(folder, name) for name in (BIG, SMALL) if find(folder, name)]
    raw = pl.concat([_matrix(path) for path in files])
    videos = _videos(folder, raw)
    log, dropped = _exposures(raw, videos)
    if log.is_empty():
        raise BadInput(f"{folder}: no row of {files[0].name} can be used; dropped {dropped}.")
    videos = (
        log.group_by("video_id").agg(pl.col("duration_s").first()).join(videos, on="video_id", how="left")
    )
    users, profile = _users(folder)
    info = Info(
        dataset="kuairec",
        source=f"{HOME} ({', '.join(p.name for p in files)})",
        licence="CC BY-SA 4.0",
        citation=(
            "Gao et al., KuaiRec: A Fully-Observed Dataset and Insights for Evaluating Recommender Systems, "
            "CIKM 2022, doi 10.1145/3511808.3557220"
        ),
        rows=RowCounts(read=len(raw), kept=len(log), dropped=dropped),
        **LogExtent.from_log(log.lazy(), UTC_OFFSET_HOURS).as_info(),
        utc_offset_hours=UTC_OFFSET_HOURS,
        main_tab=BIG if (log["tab"] == BIG).any() else SMALL,
        profile=profile,
        notes=(
            "No explicit feedback is published: labels and objectives that need it cannot be fitted.",
            f"`tab` is the matrix of a row; {SMALL} was shown on purpose, not by the regular feed.",
        ),
    )
    return Tables(log, users, videos.sort("video_id"), info)


def _matrix(path: Path) -> pl.DataFrame:
    """Read one matrix and check it in the units and order of the file, so that messages can name rows."""
    log, file = read_columns(path, _MATRIX), path.name
    if log.is_empty():
        raise BadInput(f"{file} has no rows; nothing can be learned from it.")
    for name in ("user_id", "video_id", "play_duration"):
        refuse_first(log, pl.col(name).is_null(), file, name, "is empty; is the file cut off?")
    time = pl.col("timestamp")
    refuse_first(log, ~time.is_finite(), file, "timestamp", "is not a finite number")
    refuse_first(log, time < EARLIEST_MS / 1000, file, "timestamp", "is no time in Unix seconds")
    refuse_first(
        log, time > _LATEST_S, file, "timestamp", "is no time in Unix seconds; is it in milliseconds?"
    )
    check_amounts(log, "play_duration", file, high=MAX_WATCH_TIME_S * 1000, unit="ms")
    check_amounts(log, "video_duration", file, high=MAX_DURATION_S * 1000, unit="ms")
    check_same_unit(log, "play_duration", "video_duration", file)
    check_milliseconds(log, "video_duration", file)
    return log.with_columns(tab=pl.lit(path.stem))


def _exposures(raw: pl.DataFrame, videos: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """Convert the log to seconds, and count the dropped rows by reason."""
    timed = raw.filter(pl.col("timestamp").is_not_null())
    once = timed.unique(maintain_order=True)
    merged = once.group_by("user_id", "video_id", "timestamp", "tab", maintain_order=True).agg(
        pl.col("play_duration").max(), pl.col("video_duration").max()
    )
    kept = merged.filter(pl.col("video_duration") > 0)
    dropped = {
        "no_timestamp": len(raw) - len(timed),
        "exact_duplicate": len(timed) - len(once),
        "logged_twice": len(once) - len(merged),
        "no_duration": len(merged) - len(kept),
    }
    log = kept.join(videos, on="video_id", how="left").select(
        "user_id",
        "video_id",
        "tab",
        "author_id",
        "tag",
        timestamp_ms=(pl.col("timestamp") * 1000).round().cast(pl.Int64),
        watch_time_s=pl.col("play_duration") / 1000,
        duration_s=pl.col("video_duration") / 1000,
        **{name: pl.lit(False) for name in FLAGS},
    )
    return in_order(log), dropped


def _videos(folder: Path, log: pl.DataFrame) -> pl.DataFrame:
    """Read `video_id`, `author_id`, `tag`, `tags`, `video_type`; null where unknown.

    Raises:
        BadInput: a table cannot be read, or describes no video of the log.
    """
    tags = pl.DataFrame(schema={"video_id": pl.String, "tag": pl.String, "tags": pl.String})
    if find(folder, "item_categories"):
        path = find_one(folder, "item_categories")
        table = read_columns(path, {"video_id": Kind.ID, "feat": Kind.TEXT})
        refuse_repeats(table, "video_id", path.name)
        check_joins(log.lazy(), table.lazy(), "video_id", path.name)
        ids = pl.col("feat").str.replace_all(r"\.0*\b", "").str.extract_all(r"\d+")
        tags = table.select("video_id", tag=ids.list.first(), tags=ids.list.join(","))
    daily = pl.DataFrame(schema={"video_id": pl.String, "author_id": pl.String, "video_type": pl.String})
    if find(folder, "item_daily_features"):
        path = find_one(folder, "item_daily_features")
        table = read_columns(path, _DAILY)
        check_joins(log.lazy(), table.lazy(), "video_id", path.name)
        daily = table.group_by("video_id").agg(
            pl.col("author_id").drop_nulls().first(),
            pl.col("video_type").drop_nulls().sort().first(),  # AD sorts before NORMAL: one day is enough
        )
    return tags.join(daily, on="video_id", how="full", coalesce=True).select(
        "video_id", "author_id", "tag", "tags", "video_type"
    )


def _users(folder: Path) -> tuple[pl.DataFrame, ProfileSchema]:
    if not find(folder, "user_features"):
        return pl.DataFrame(schema={"user_id": pl.String}), ProfileSchema()
    path = find_one(folder, "user_features")
    features = {name: kind for name, kind in USER_KINDS.items() if name != "user_id"}
    table = read_columns(path, {"user_id": Kind.ID}, features)
    refuse_repeats(table, "user_id", path.name)
    users = profile_of(table).sort("user_id")
    return users, ProfileSchema(
        numbers=tuple(name for name in NUMBERS if name in users.columns),
        categories=tuple(name for name in CATEGORIES if name in users.columns),
    )
