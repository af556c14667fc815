"""KuaiRec: the published CSV files, or the same tables as parquet.

Gao et al., "KuaiRec: A Fully-Observed Dataset and Insights for Evaluating Recommender Systems", CIKM 2022,
doi 10.1145/3511808.3557220. What there is, and what is done about it:

* `big_matrix` is what users met in their feeds. `small_matrix` shows nearly every one of its users nearly
  every one of its videos, so it is another policy's. Both are read where they are, and `tab` tells them
  apart: watch time is trained and judged on `big_matrix`, unless `small_matrix` is all there is;
* `play_duration` and `video_duration` are milliseconds, `timestamp` is Unix seconds with a fraction. Rows
  without a `timestamp` have no place in a history and are dropped; `time` and `date` say the same, unread;
* nobody's likes, comments, … are published: every flag is false, which `dataset.json` notes, and whatever
  needs explicit feedback refuses the log and says so;
* rows that are copies are dropped; a user, video and moment logged twice keeps the longest watch;
* `item_categories.feat` holds a video's tags (the first becomes `tag`), `item_daily_features` its author and
  whether it is an advertisement (`video_type` AD), `user_features` the profile: each is read where it is. The
  daily counts of plays and likes are not, since they know the days a model is judged on.
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
    check_milliseconds,
    check_same_unit,
    refuse_first,
    refuse_repeats,
)
from training.data._kuairand_rows import CATEGORIES, NUMBERS, USER_KINDS, profile_of
from training.data._source import Kind, find, find_one, read_columns
from training.data._tables import Info, ProfileSchema, RowCounts, Tables, in_order, local_days

UTC_OFFSET_HOURS: Final = 8.0
BIG: Final = "big_matrix"
SMALL: Final = "small_matrix"

_MATRIX: Final = {
    "user_id": Kind.ID, "video_id": Kind.ID, "timestamp": Kind.NUMBER,
    "play_duration": Kind.NUMBER, "video_duration": Kind.NUMBER,
}  # fmt: skip
_DAILY: Final = {"video_id": Kind.ID, "author_id": Kind.ID, "video_type": Kind.TEXT}
_LATEST_S: Final = EARLIEST_MS / 10
"""Seconds of the year 4969. What is above is milliseconds."""


def read_kuairec(source: Path | None, seed: int) -> Tables:
    """Read one or both matrices and the tables beside them.

    Args:
        source: the unpacked archive, its `data/` folder, or a folder of the same tables as parquet.
        seed: not used; nothing here is drawn.

    Raises:
        BadInput: see `training.data.prepare`.
    """
    del seed
    folder = _folder(source)
    files = [find_one(folder, name) for name in (BIG, SMALL) if find(folder, name)]
    raw = pl.concat([_matrix(path) for path in files])
    videos = _videos(folder)
    log, dropped = _exposures(raw, videos)
    if log.is_empty():
        raise BadInput(f"{folder}: no row of {files[0].name} can be used; dropped {dropped}.")
    videos = (
        log.group_by("video_id").agg(pl.col("duration_s").first()).join(videos, on="video_id", how="left")
    )
    users, profile = _users(folder)
    time = log["timestamp_ms"]
    info = Info(
        dataset="kuairec",
        source=f"https://kuairec.com ({', '.join(p.name for p in files)})",
        licence="CC BY-SA 4.0",
        citation=(
            "Gao et al., KuaiRec: A Fully-Observed Dataset and Insights for Evaluating Recommender Systems, "
            "CIKM 2022, doi 10.1145/3511808.3557220"
        ),
        rows=RowCounts(read=len(raw), kept=len(log), dropped=dropped),
        users=log["user_id"].n_unique(),
        videos=log["video_id"].n_unique(),
        first_timestamp_ms=int(time.to_numpy().min()),
        last_timestamp_ms=int(time.to_numpy().max()),
        utc_offset_hours=UTC_OFFSET_HOURS,
        days=local_days(time, UTC_OFFSET_HOURS),
        main_tab=BIG if (log["tab"] == BIG).any() else SMALL,
        profile=profile,
        notes=(
            "No explicit feedback is published: labels and objectives that need it cannot be fitted.",
            f"`tab` is the matrix a row is from; {SMALL} was shown to its users on purpose, not by the feed.",
        ),
    )
    return Tables(log, users, videos.sort("video_id"), info)


def _folder(source: Path | None) -> Path:
    if source is None:
        raise BadInput("kuairec is read from a folder; give it with --source DIR.")
    for folder in (source, source / "data", source / "KuaiRec 2.0" / "data", source / "KuaiRec" / "data"):
        if find(folder, BIG) or find(folder, SMALL):
            return folder
    what = "holds no" if source.is_dir() else "is not a folder with"
    raise BadInput(
        f"{source} {what} {BIG} or {SMALL}, as .csv or .parquet, nor does its data/; get KuaiRec from "
        "https://kuairec.com and give the folder it unpacks to."
    )


def _matrix(path: Path) -> pl.DataFrame:
    """One matrix, checked in the units and the order of its file, so that a message can name its row."""
    log, where = read_columns(path, _MATRIX), path.name
    if log.is_empty():
        raise BadInput(f"{where} has no rows; nothing can be learned from it.")
    for name in ("user_id", "video_id", "play_duration"):
        refuse_first(log, pl.col(name).is_null(), where, name, "is empty; is the file cut off?")
    time = pl.col("timestamp")
    refuse_first(log, ~time.is_finite(), where, "timestamp", "is not a finite number")
    refuse_first(log, time < EARLIEST_MS / 1000, where, "timestamp", "is no time in Unix seconds")
    refuse_first(
        log, time > _LATEST_S, where, "timestamp", "is no time in Unix seconds; is it in milliseconds?"
    )
    check_amounts(log, "play_duration", where, high=MAX_WATCH_TIME_S * 1000, unit="ms")
    check_amounts(log, "video_duration", where, high=MAX_DURATION_S * 1000, unit="ms")
    check_same_unit(log, "play_duration", "video_duration", where)
    check_milliseconds(log, "video_duration", where)
    return log.with_columns(tab=pl.lit(path.stem))


def _exposures(raw: pl.DataFrame, videos: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """The log in seconds, and how many rows were dropped for which reason."""
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


def _videos(folder: Path) -> pl.DataFrame:
    """`video_id`, `author_id`, `tag`, `tags`, `video_type`; null what is not told, no row if nothing is."""
    tags = pl.DataFrame(schema={"video_id": pl.String, "tag": pl.String, "tags": pl.String})
    if find(folder, "item_categories"):
        path = find_one(folder, "item_categories")
        table = read_columns(path, {"video_id": Kind.ID, "feat": Kind.TEXT})
        refuse_repeats(table, "video_id", path.name)
        ids = pl.col("feat").str.extract_all(r"\d+")
        tags = table.select("video_id", tag=ids.list.first(), tags=ids.list.join(","))
    daily = pl.DataFrame(schema={"video_id": pl.String, "author_id": pl.String, "video_type": pl.String})
    if find(folder, "item_daily_features"):
        table = read_columns(find_one(folder, "item_daily_features"), _DAILY)
        daily = table.group_by("video_id").agg(
            pl.col("author_id").drop_nulls().first(),
            pl.col("video_type").drop_nulls().sort().first(),  # AD before NORMAL: on any day is enough
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
