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

import polars as pl

from models.errors import BadInput
from training.data._checks import refuse_repeats
from training.data._kuairand_before import NUMBERS_BEFORE, before_the_log
from training.data._kuairand_order import check_order
from training.data._kuairand_rows import (
    CATEGORIES,
    CITATION,
    LICENCE,
    LOG_KINDS,
    MAIN_TAB,
    MORE_OF_VIDEOS,
    NUMBERS,
    UTC_OFFSET_HOURS,
    VIDEO_KINDS,
    catalogue,
    check_rows,
    check_units,
    exposures,
    read_users,
)
from training.data._source import UNREADABLE, Kind, find, find_one, first_line, read_columns
from training.data._tables import CensoredHistory, Info, ProfileSchema, RowCounts, Tables, local_days


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
    path = find_one(folder, "video_features_basic_pure")
    videos = read_columns(path, VIDEO_KINDS, MORE_OF_VIDEOS)
    refuse_repeats(videos, "video_id", path.name)
    videos = catalogue(videos).sort("video_id")
    users = read_users(find_one(folder, "user_features_pure"))
    files = find(folder, "log_standard_*")
    raw = pl.concat([_log(path) for path in files])
    log, dropped = exposures(raw, videos)
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
        licence=LICENCE,
        citation=CITATION,
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
        history=None if history is None else CensoredHistory.of(history),
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
    log, where = read_columns(path, LOG_KINDS), path.name
    if log.is_empty():
        raise BadInput(f"{where} has no rows; nothing can be learned from it.")
    check_rows(log, where)
    check_units(log, where)
    check_order(log, where)
    return log


def _history(folder: Path) -> pl.DataFrame | None:
    """Exposures before the log, without watch times, where the folder has them."""
    seen = find(folder, "history_exposures_to_*")
    sequences = find(folder, "user_history_to_*")
    if seen:
        kinds = {
            "user_id": Kind.ID, "video_id": Kind.ID, "pos_from_end": Kind.WHOLE,
            "long_view": Kind.WHOLE, "is_like": Kind.WHOLE,
        }  # fmt: skip
        table = pl.concat([read_columns(path, kinds) for path in seen]).select(
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
