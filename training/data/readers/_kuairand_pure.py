"""KuaiRand-Pure: the published CSV files, or the same tables as parquet.

Gao et al., "KuaiRand: An Unbiased Sequential Recommendation Dataset with Randomly Exposed Videos",
CIKM 2022, doi 10.1145/3511808.3557624. Findings and how the reader treats them:

* times are milliseconds; `hourmin` disagrees with `time_ms` on 18 % of rows, so `time_ms` is used.
  `date` is China time (UTC+8) by another clock: 0.9 % of rows, all before midnight, carry the next date;
* some exposures are logged twice, nearly all in tabs 6 and 5: duplicates are dropped, and versions that
  differ are merged as `POST /label` merges (longest watch time, OR of the flags);
* `duration_ms` is 0 on 1.6 % of rows. The catalogue fills it in where it can, but in Pure it lacks exactly
  these videos; rows without a duration are dropped, since they have no watch ratio;
* watch times above the duration (15 % of rows) are replays, and are kept;
* `log_random_*` (random exposure) comes from another policy and is not read.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from models.errors import BadInput
from training.data._checks import refuse_repeats
from training.data._files import (
    UNREADABLE,
    Kind,
    find,
    find_one,
    first_line,
    read_columns,
    release_folder,
    typed,
)
from training.data._tables import CensoredHistory, Info, LogExtent, ProfileSchema, RowCounts, Tables
from training.data.readers._kuairand import (
    CATEGORIES,
    CITATION,
    HOME,
    LICENCE,
    LOG_KINDS,
    MAIN_TAB,
    MORE_OF_VIDEOS,
    NUMBERS,
    UTC_OFFSET_HOURS,
    VIDEO_KINDS,
    catalogue,
    check_order,
    check_rows,
    check_units,
    exposures,
    read_users,
)
from training.data.readers._kuairand_before import NUMBERS_BEFORE, before_the_log, reaching_into


def read_kuairand_pure(source: Path | None, seed: int) -> Tables:
    """Read every `log_standard_*` file and the tables beside it.

    Args:
        source: the unpacked archive, its `data/` folder, or a folder of the same tables as parquet.
        seed: unused; nothing is sampled.

    Raises:
        BadInput: as `training.data.prepare`.
    """
    del seed
    folder = release_folder(
        "kuairand-pure", source, ("data", "KuaiRand-Pure/data"), ("log_standard_*",), HOME
    )
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
    history = _history(folder, log)
    before = before_the_log(folder, log)
    if before is not None:
        users = users.join(before, on="user_id", how="left")
    info = Info(
        dataset="kuairand-pure",
        source=f"{HOME} ({', '.join(p.name for p in files)})",
        licence=LICENCE,
        citation=CITATION,
        rows=RowCounts(read=len(raw), kept=len(log), dropped=dropped),
        **LogExtent.from_log(log.lazy(), UTC_OFFSET_HOURS).as_info(),
        utc_offset_hours=UTC_OFFSET_HOURS,
        main_tab=MAIN_TAB,
        profile=ProfileSchema(
            numbers=NUMBERS if before is None else (*NUMBERS, *NUMBERS_BEFORE), categories=CATEGORIES
        ),
        history=None if history is None else CensoredHistory.from_table(history),
        notes=("The pool of videos is closed: exposures of other videos are missing from the sequences.",),
    )
    return Tables(log, users, videos, info, history)


def _log(path: Path) -> pl.DataFrame:
    """Read one log and check it in the units and order of the file, so that messages can name rows."""
    log, file = read_columns(path, LOG_KINDS), path.name
    if log.is_empty():
        raise BadInput(f"{file} has no rows; nothing can be learned from it.")
    check_rows(log, file)
    check_units(log, file)
    check_order(log, file)
    return log


def _history(folder: Path, log: pl.DataFrame) -> pl.DataFrame | None:
    """Read exposures before the log, which have no watch times, if the folder has them and says until when
    they go."""
    exposure_files = find(folder, "history_exposures_to_*")
    overlapping = reaching_into(folder, log)
    if overlapping is None:
        return None
    if exposure_files:
        kinds = {
            "user_id": Kind.ID, "video_id": Kind.ID, "pos_from_end": Kind.WHOLE,
            "long_view": Kind.WHOLE, "is_like": Kind.WHOLE,
        }  # fmt: skip
        table = pl.concat([read_columns(path, kinds) for path in exposure_files]).select(
            "user_id",
            "video_id",
            position="pos_from_end",
            long_view=pl.col("long_view") == 1,
            like=pl.col("is_like") == 1,
        )
    else:
        table = pl.concat([_exploded(path) for path in find(folder, "user_history_to_*")])
    return table.join(overlapping, on="user_id", how="anti").sort("user_id", "position")


def _exploded(path: Path) -> pl.DataFrame:
    """Explode `watch_seq`, oldest first, to one row per exposure with unknown feedback."""
    try:
        seqs = pl.read_parquet(path, columns=["user_id", "watch_seq"])
    except UNREADABLE as e:
        raise BadInput(f"{path} cannot be read as user histories: {first_line(e)}.") from e
    rows = seqs.filter(pl.col("watch_seq").list.len() > 0).select(
        "user_id",
        pl.col("watch_seq").list.reverse().alias("video_id"),
        pl.int_ranges(1, pl.col("watch_seq").list.len() + 1).alias("position"),
    )
    kinds = {"user_id": Kind.ID, "video_id": Kind.ID, "position": Kind.WHOLE}
    return typed(rows.explode("video_id", "position"), kinds, path.name).with_columns(
        long_view=pl.lit(None, pl.Boolean), like=pl.lit(None, pl.Boolean)
    )
