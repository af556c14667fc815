"""KuaiRand-Pure: the published CSV files, or the same tables as parquet.

Gao et al., "KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed Videos",
CIKM 2022, doi 10.1145/3511808.3557624. What was found in it, and what is done about it:

* times are milliseconds; `hourmin` disagrees with `time_ms` on 18 % of rows, so `time_ms` is used.
  `date` is China time (UTC+8) by another clock: 0.9 % of rows, all before midnight, carry the next date;
* some exposures are logged twice, nearly all in tabs 6 and 5: the copies are dropped, and where they
  differ they are merged as `POST /label` merges (longest watch, OR of the flags);
* `duration_ms` is 0 on 1.6 % of rows. The catalogue is asked first, for what other releases know, but in
  Pure it lacks precisely these videos; what stays unknown is dropped, since no ratio exists;
* watch times above the duration (15 % of rows) are replays, and are kept;
* logs of random exposure (`log_random_*`) are another policy's and are not read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from models.errors import BadInput
from models.schema import FLAGS, MAX_DURATION_S, MAX_WATCH_TIME_S
from training.data._checks import check_amounts, check_same_unit, check_timestamps, refuse_first
from training.data._kuairand_before import NUMBERS_BEFORE, before_the_log
from training.data._kuairand_order import check_order
from training.data._source import UNREADABLE, Kind, find, find_one, first_line, read_columns
from training.data._split import DAY_MS
from training.data._tables import (
    CensoredHistory,
    Info,
    ProfileSchema,
    RowCounts,
    Tables,
    in_order,
    local_days,
)

UTC_OFFSET_HOURS: Final = 8.0
MAIN_TAB: Final = "1"
"""The single-column feed, three quarters of the rows: watch time is trained and judged there."""

NUMBERS: Final = ("follow_user_num", "fans_user_num", "friend_user_num", "register_days")
CATEGORIES: Final = (
    "user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author",
    *(f"onehot_feat{i}" for i in range(18) if i not in (3, 8)),
)  # fmt: skip
"""`onehot_feat3` and `onehot_feat8` are left out: 1,471 and 454 values over 27,285 users are nearly ids."""

_LOG: Final = {
    "user_id": Kind.ID, "video_id": Kind.ID, "date": Kind.WHOLE, "time_ms": Kind.WHOLE,
    "is_like": Kind.WHOLE, "is_follow": Kind.WHOLE, "is_comment": Kind.WHOLE, "is_forward": Kind.WHOLE,
    "is_hate": Kind.WHOLE, "is_profile_enter": Kind.WHOLE,
    "play_time_ms": Kind.NUMBER, "duration_ms": Kind.NUMBER, "tab": Kind.ID,
}  # fmt: skip
_USERS: Final = {
    "user_id": Kind.ID,
    **{name: Kind.NUMBER for name in (*NUMBERS, *CATEGORIES) if name != "user_active_degree"},
    "user_active_degree": Kind.TEXT,
}
_VIDEOS: Final = {"video_id": Kind.ID, "author_id": Kind.ID, "video_duration": Kind.NUMBER, "tag": Kind.TEXT}
_MORE_OF_VIDEOS: Final = {
    "video_type": Kind.TEXT, "upload_type": Kind.TEXT, "upload_dt": Kind.TEXT, "server_width": Kind.NUMBER,
    "server_height": Kind.NUMBER, "music_id": Kind.ID, "music_type": Kind.NUMBER,
}  # fmt: skip
"""Not trained on; kept under the authors' names for whoever looks into the catalogue."""

_MISSING_STREAMER: Final = -124


def read_kuairand_pure(source: Path | None, seed: int) -> Tables:
    """Read every `log_standard_*` file and the tables beside it.

    Args:
        source: the unpacked archive, its `data/` folder, or a folder of the same tables as parquet.
        seed: not used; nothing here is drawn.

    Raises:
        BadInput: see `training.data.prepare`.
    """
    del seed
    folder = _folder(source)
    videos = _videos(folder)
    users = _users(folder)
    files = find(folder, "log_standard_*")
    raw = pl.concat([_log(path) for path in files])
    log, dropped = _interactions(raw, videos)
    if log.is_empty():
        raise BadInput(f"{folder}: no row of {files[0].name} can be used; dropped {dropped}.")
    history = _history(folder)
    before = before_the_log(folder, log)
    if before is not None:
        users = users.join(before, on="user_id", how="left")
    time = log["timestamp_ms"]
    info = Info(
        dataset="kuairand-pure",
        source=f"https://kuairand.com ({', '.join(p.name for p in files)})",
        licence="CC BY-SA 4.0",
        citation=(
            "Gao et al., KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed "
            "Videos, CIKM 2022, doi 10.1145/3511808.3557624"
        ),
        rows=RowCounts(read=len(raw), kept=len(log), dropped=dropped),
        users=log["user_id"].n_unique(),
        videos=log["video_id"].n_unique(),
        first_timestamp_ms=int(time.to_numpy().min()),
        last_timestamp_ms=int(time.to_numpy().max()),
        utc_offset_hours=UTC_OFFSET_HOURS,
        days=local_days(time, UTC_OFFSET_HOURS),
        main_tab=MAIN_TAB,
        profile=ProfileSchema(
            numbers=NUMBERS if before is None else (*NUMBERS, *NUMBERS_BEFORE), categories=CATEGORIES
        ),
        history=None if history is None else _counts(history),
        notes=("The pool of videos is closed: exposures of other videos are missing from the sequences.",),
    )
    return Tables(log, users, videos, info, history)


def _folder(source: Path | None) -> Path:
    if source is None:
        raise BadInput("kuairand-pure is read from a folder; give it with --source DIR.")
    if not source.is_dir():
        raise BadInput(
            f"{source} is not a folder; get the data with `python -m training fetch kuairand-pure`."
        )
    for folder in (source, source / "data", source / "KuaiRand-Pure" / "data"):
        if find(folder, "log_standard_*"):
            return folder
    raise BadInput(
        f"{source} holds no log_standard_*.csv or .parquet, nor does its data/; "
        "give the folder of the unpacked archive."
    )


def _log(path: Path) -> pl.DataFrame:
    """One log, checked in the units and the order of its file, so that a message can name its row."""
    log, where = read_columns(path, _LOG), path.name
    if log.is_empty():
        raise BadInput(f"{where} has no rows; nothing can be learned from it.")
    for name in _LOG:
        if name != "duration_ms":
            refuse_first(log, pl.col(name).is_null(), where, name, "is empty; is the file cut off?")
    for name in _LOG:
        if name.startswith("is_"):
            refuse_first(log, ~pl.col(name).is_in([0, 1]), where, name, "must be 0 or 1")
    check_timestamps(log, "time_ms", where)
    check_amounts(log, "play_time_ms", where, high=MAX_WATCH_TIME_S * 1000, unit="ms")
    check_amounts(log, "duration_ms", where, high=MAX_DURATION_S * 1000, unit="ms")
    check_same_unit(log, "play_time_ms", "duration_ms", where)
    median = log.filter(pl.col("duration_ms") > 0)["duration_ms"].median()
    if isinstance(median, float) and not 1_000 <= median <= 3_600_000:
        unit = "seconds" if median < 1_000 else "microseconds"
        raise BadInput(
            f"{where}: `duration_ms` looks like {unit}: the median is {median:,.6g}; give milliseconds."
        )
    _check_date(log, where)
    check_order(log, where)
    return log


def _check_date(log: pl.DataFrame, where: str) -> None:
    """`time_ms` and `date` come from two clocks, hours apart at most: a day apart is a broken row."""
    day = (pl.col("time_ms") + round(UTC_OFFSET_HOURS * 3_600_000)) // DAY_MS
    dated = pl.col("date").cast(pl.String).str.to_date("%Y%m%d", strict=False).cast(pl.Int64)
    refuse_first(log, dated.is_null(), where, "date", "is no date (YYYYMMDD)")
    refuse_first(log, (day - dated).abs() > 1, where, "time_ms", "is more than a day away from its `date`")


def _interactions(raw: pl.DataFrame, videos: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """The log in seconds, and how many rows were dropped for which reason."""
    flags = [f"is_{name}" for name in FLAGS]
    once = raw.drop("date").unique(maintain_order=True)
    merged = once.group_by("user_id", "video_id", "time_ms", "tab", maintain_order=True).agg(
        pl.col("play_time_ms").max(), pl.col("duration_ms").max(), pl.col(flags).max()
    )
    catalogue = videos.select("video_id", "author_id", "tag", known_s="duration_s")
    logged_s = pl.col("duration_ms") / 1000
    log = merged.join(catalogue, on="video_id", how="left").select(
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


def _users(folder: Path) -> pl.DataFrame:
    path = find_one(folder, "user_features_pure")
    users = read_columns(path, _USERS)
    _refuse_repeats(users, "user_id", path.name)
    streamer = pl.col("is_live_streamer")
    users = users.with_columns(
        pl.when(streamer != _MISSING_STREAMER).then(streamer).alias("is_live_streamer")
    )
    coded = [name for name in CATEGORIES if name != "user_active_degree"]
    return users.select(
        "user_id",
        *NUMBERS,
        *(pl.col(name).cast(pl.Int64).cast(pl.String) if name in coded else name for name in CATEGORIES),
    ).sort("user_id")


def _videos(folder: Path) -> pl.DataFrame:
    path = find_one(folder, "video_features_basic_pure")
    videos = read_columns(path, _VIDEOS, _MORE_OF_VIDEOS)
    _refuse_repeats(videos, "video_id", path.name)
    duration = pl.col("video_duration")
    return videos.select(
        "video_id",
        pl.when(duration > 0).then(duration / 1000).alias("duration_s"),
        "author_id",
        pl.col("tag").str.split(",").list.first().alias("tag"),
        pl.col("tag").alias("tags"),
        *(name for name in _MORE_OF_VIDEOS if name in videos.columns),
    ).sort("video_id")


def _refuse_repeats(table: pl.DataFrame, key: str, where: str) -> None:
    refuse_first(table, pl.col(key).is_null(), where, key, "is empty; is the file cut off?")
    refuse_first(
        table, ~pl.col(key).is_first_distinct(), where, key, "is listed twice; keep one row for each"
    )


def _history(folder: Path) -> pl.DataFrame | None:
    """Exposures before the log, without watch times, where the folder has them."""
    exposures = find(folder, "history_exposures_to_*")
    sequences = find(folder, "user_history_to_*")
    if exposures:
        kinds = {
            "user_id": Kind.ID, "video_id": Kind.ID, "pos_from_end": Kind.WHOLE,
            "long_view": Kind.WHOLE, "is_like": Kind.WHOLE,
        }  # fmt: skip
        table = pl.concat([read_columns(path, kinds) for path in exposures]).select(
            "user_id",
            "video_id",
            position="pos_from_end",
            long_view=pl.col("long_view") == 1,
            like=pl.col("is_like") == 1,
        )
    elif sequences:
        table = pl.concat([_exploded(path) for path in sequences])
    else:
        return None
    return table.sort("user_id", "position")


def _exploded(path: Path) -> pl.DataFrame:
    """`watch_seq`, oldest first, as one row per exposure: nothing is known of what the user did."""
    try:
        seqs = pl.read_parquet(path, columns=["user_id", "watch_seq"])
    except UNREADABLE as e:
        raise BadInput(f"{path} cannot be read as user histories: {first_line(e)}.") from e
    rows = seqs.filter(pl.col("watch_seq").list.len() > 0).select(
        pl.col("user_id").cast(pl.String),
        pl.col("watch_seq").list.reverse().alias("video_id"),
        pl.int_ranges(1, pl.col("watch_seq").list.len() + 1).alias("position"),
    )
    return rows.explode("video_id", "position").with_columns(
        pl.col("video_id").cast(pl.String),
        long_view=pl.lit(None, pl.Boolean),
        like=pl.lit(None, pl.Boolean),
    )


def _counts(history: pl.DataFrame) -> CensoredHistory:
    return CensoredHistory(
        rows=len(history),
        users=history["user_id"].n_unique(),
        long_view_known=history["long_view"].count(),
        like_known=history["like"].count(),
    )
