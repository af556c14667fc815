"""Read a log of one's own out of core: map, check, sort and write it as every other dataset is.

DuckDB does it, not polars: it sorts, joins and removes duplicates with a limit on memory, using the disk
beyond it, and streams compressed CSV.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import polars as pl

from models.errors import BadInput
from models.schema import EXPLICIT, FLAGS
from models.video_features import NO_VIDEO_FEATURES, VideoFeatures
from training.data._checks import check_medians
from training.data._tables import (
    INTERACTIONS,
    USERS,
    VIDEOS,
    Info,
    LogExtent,
    ProfileSchema,
    RowCounts,
)
from training.data.own_log._columns import (
    SAMPLE_ROWS,
    Opened,
    OwnLog,
    check_columns,
    complete,
    described,
    known_mapping,
)
from training.data.own_log._faults import Fault, refuse_lost_digits
from training.data.own_log._files import Connection, Relation, TextTable, open_table, unreadable
from training.data.own_log._mapping import MAPPING, OF_VIDEOS, ColumnMapping
from training.data.own_log._rows import merge, stage
from training.data.own_log._users_videos import (
    catalogue,
    videos_of,
    widths_of_embeddings,
    write_users,
    write_videos,
)

MEMORY: Final = "1GB"
"""Of DuckDB; what does not fit goes to a folder beside the output."""


class OwnInfo(NamedTuple):
    """What was read of a log of one's own."""

    info: Info
    faults: tuple[Fault, ...]
    """Why rows were dropped or merged, one for each reason."""


def write_own_log(source: Path | None, out: Path, own: OwnLog, report: Callable[[str], None]) -> OwnInfo:
    """Read a log with columns of its own and write its tables and `mapping.json` into `out`.

    Args:
        source: a file, a folder, or a pattern of files: CSV, NDJSON or Parquet.
        out: an existing folder with room for twice the log while it is written.
        own: further tables, and what is known of the columns.
        report: is called with the mapping, and with the faults that were found, as lines for people.

    Raises:
        BadInput: a file or column is not there or cannot be read, a column or unit cannot be guessed, no row
            can be used, or times are in another unit than the mapping says.
    """
    if source is None:
        raise BadInput("own is read from a file or folder of a log; give it with --source.")
    with database(source, out) as (connection, work):
        return _write(connection, source, out, work, own, report)


@contextmanager
def database(source: Path, out: Path) -> Iterator[tuple[Connection, Path]]:
    """Open DuckDB with at most `MEMORY`, and a folder in `out` for what does not fit, which goes at the end.

    Raises:
        BadInput: within it, a file of `source` cannot be read, or the disk is full.
    """
    work = out / ".work"
    work.mkdir()
    connection = duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(work)})
    try:
        yield connection, work
    except duckdb.Error as e:
        raise unreadable(source, e) from e
    except RuntimeError as e:
        if "interrupted" in str(e):  # what DuckDB makes of Ctrl-C
            raise KeyboardInterrupt from e
        raise
    finally:
        connection.close()
        shutil.rmtree(work, ignore_errors=True)


def write_users_and_videos(
    connection: Connection, own: OwnLog, mapping: ColumnMapping, out: Path
) -> tuple[ProfileSchema, VideoFeatures]:
    """Write the tables of users and videos beside a log that is written already.

    Args:
        connection: of DuckDB.
        own: the tables of one's own, if there are any.
        mapping: what their columns are.
        out: the folder with `interactions.parquet`.

    Returns:
        The features of users and of videos.

    Raises:
        BadInput: a table or a column is not there, or is of another log.
    """
    users = open_table(connection, "users", own.users) if own.users else None
    table = open_table(connection, "videos", own.videos) if own.videos else None
    tables = {name: found for name, found in (("videos", table), ("users", users)) if found is not None}
    check_columns({name: getattr(mapping, name) for name in tables}, tables)
    videos, features = open_videos(connection, table, mapping)
    log = connection.read_parquet(str(out / INTERACTIONS))
    write_videos(videos_of(log), videos, out / VIDEOS, features)
    if users is not None:
        return write_users(connection, users, mapping.users, out / USERS), features
    log.aggregate("user_id", "user_id").order("user_id").write_parquet(str(out / USERS))
    return ProfileSchema(), features


def _write(
    connection: Connection, source: Path, out: Path, work: Path, own: OwnLog, report: Callable[[str], None]
) -> OwnInfo:
    opened = _open(connection, source, own)
    known, file = known_mapping(source, own)
    samples = {
        name: _in_memory(connection, table.rows.limit(SAMPLE_ROWS), f"sample_of_{name}")
        for name, table in opened.tables().items()
    }
    mapping = complete(known, opened, samples, own, guess=file is None)
    report(f"columns, as {file} says:" if file else "columns, guessed from names and values:")
    report(described(mapping))
    (out / MAPPING).write_text(mapping.model_dump_json(indent=1, exclude_none=True) + "\n")
    # Headers and samples are read in the order of the files; rows are sorted, so theirs is of no use.
    connection.execute("SET preserve_insertion_order = false")
    videos, features = open_videos(connection, opened.videos, mapping)
    staged, faults = stage(connection, opened.log, mapping, videos, work)
    for fault in faults:
        report(f"dropped {fault}")
    refuse_lost_digits(faults, source)
    kept, merged = merge(connection, staged, mapping.signals(), work, out / INTERACTIONS)
    for fault in merged:
        report(f"dropped {fault}")
    faults += merged
    if not kept:
        raise BadInput(f"no row of {source} can be used; {'; '.join(map(str, faults)) or 'it has no rows'}.")
    log = pl.scan_parquet(out / INTERACTIONS)
    check_medians(log.select("watch_time_s", "duration_s").head(1_000_000).collect(), source.name)
    log_of_ids = connection.read_parquet(str(out / INTERACTIONS))
    write_videos(videos_of(log_of_ids), videos, out / VIDEOS, features)
    profile = write_users(connection, opened.users, mapping.users, out / USERS)
    extent = LogExtent.from_log(log, mapping.utc_offset_hours)
    info = describe(mapping, opened, faults, extent, profile, features)
    for note in info.notes:
        report(note)
    return OwnInfo(info, tuple(faults))


def describe(
    mapping: ColumnMapping,
    opened: Opened,
    faults: Sequence[Fault],
    extent: LogExtent,
    profile: ProfileSchema,
    features: VideoFeatures,
) -> Info:
    """Return what `dataset.json` says of a log of one's own."""
    dropped: dict[str, int] = {}
    for fault in faults:
        dropped[fault.reason] = dropped.get(fault.reason, 0) + fault.rows
    return Info(
        dataset="own",
        source=", ".join(path.name for path in opened.log.files[:10]),
        licence="unknown",
        citation="unknown",
        rows=RowCounts(read=extent.rows + sum(dropped.values()), kept=extent.rows, dropped=dropped),
        **extent.as_info(),
        utc_offset_hours=mapping.utc_offset_hours,
        main_tab=mapping.main_tab,
        profile=profile,
        signals=mapping.signals(),
        video_features=features,
        notes=tuple(_missing(mapping, opened)),
    )


def open_videos(
    connection: Connection, table: TextTable | None, mapping: ColumnMapping
) -> tuple[Relation | None, VideoFeatures]:
    """Return the videos of a table, in memory, and their features."""
    if table is None:
        return None, NO_VIDEO_FEATURES
    videos = _in_memory(connection, catalogue(table, mapping.videos), "catalogue")
    return videos, mapping.video_features(widths_of_embeddings(videos, mapping.videos))


def _open(connection: Connection, source: Path, own: OwnLog) -> Opened:
    others = [path for path in (own.videos, own.users) if path is not None]
    return Opened(
        open_table(connection, "interactions", source, skip=others),
        open_table(connection, "videos", own.videos) if own.videos else None,
        open_table(connection, "users", own.users) if own.users else None,
    )


def _in_memory(connection: Connection, rows: Relation, name: str) -> Relation:
    rows.create(name)
    return connection.table(name)


def _missing(mapping: ColumnMapping, opened: Opened) -> list[str]:
    """Say what cannot be learned for lack of a column, one sentence each."""
    ours, videos = mapping.interactions, mapping.videos
    notes = []
    without = [name for name in FLAGS if name not in ours]
    if set(EXPLICIT) <= set(without):
        notes.append("No explicit feedback: labels and objectives that need it cannot be fitted.")
    elif without:
        notes.append(f"No {', '.join(without)}: these count as never done.")
    if "hate" in without and "hate" not in notes[-1]:
        notes.append("No hates: nothing lowers an author.")
    unknown = (name for name in OF_VIDEOS if name not in ours and name not in videos)
    notes += [f"No {name}: it counts as unknown." for name in unknown]
    if "tab" not in ours:
        notes.append("No tab: all rows are of one feed.")
    if opened.users is None:
        notes.append("No users: there are no profile features.")
    return notes
