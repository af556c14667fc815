"""A log of one's own on a cluster: the rules of one machine, row by row, and the same table at the end.

    OUT/_staged/day=2026-05-01/              rows in our columns and units, until all days are written
    OUT/_staged.json                         of which source they are, what was dropped, what each day holds
    OUT/interactions.parquet/day=2026-05-01  without duplicates and in order; `_manifest` beside the days
    OUT/videos.parquet, users.parquet, mapping.json, dataset.json

Rows that are the same exposure have the same time and so the same day: each day is merged by itself.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import duckdb
import polars as pl

from models.errors import BadInput
from models.schema import FLAGS
from training.data import (
    DAY_MS,
    INFO,
    INTERACTIONS,
    USERS,
    VIDEOS,
    Info,
    LogExtent,
    Summary,
    check_joins,
    check_medians,
    parts_of,
)
from training.data.own_log import (
    FROM_VIDEOS,
    KEY,
    MAPPING,
    OF_VIDEOS,
    SAMPLE_ROWS,
    ColumnMapping,
    Connection,
    Fault,
    Opened,
    OwnLog,
    Relation,
    TextTable,
    as_text,
    check_rules,
    complete,
    database,
    describe,
    described,
    faults_of,
    faults_of_repeats,
    fill_from_videos,
    known_mapping,
    open_table,
    open_videos,
    refuse_lost_digits,
    rules,
    staged_columns,
    type_rows,
    write_users,
    write_videos,
)
from training.spark.partitions import (
    MANIFEST,
    hexadecimal,
    read_manifest,
    rows_and_checksum,
    write_partition,
)
from training.spark.session import expressions, read_parquet
from training.staging import refuse_existing, replace_text

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

STAGED: Final = "_staged"
"""Folder of the rows, and with `.json` behind it the file that says what they are."""

_TYPES: Final = {"varchar": "string", "bigint": "long", "integer": "int", "double": "double"}
"""Of DuckDB and of Spark."""


class Day(NamedTuple):
    """The staged rows of a day."""

    rows: int
    checksum: str


class Staged(NamedTuple):
    """What `_staged.json` says."""

    source: str
    """Digest of the files, the mapping and the table of videos."""
    faults: tuple[Fault, ...]
    days: Mapping[str, Day]

    @classmethod
    def read(cls, out: Path) -> Staged | None:
        """Read what a run before has left."""
        path = out / f"{STAGED}.json"
        if not path.is_file():
            return None
        found = json.loads(path.read_text())
        days = {day: Day(*values) for day, values in found["days"].items()}
        return cls(found["source"], tuple(Fault(*fault) for fault in found["faults"]), days)

    def write(self, out: Path) -> None:
        """Write it whole or not at all."""
        replace_text(out / f"{STAGED}.json", json.dumps(self._asdict()))


def prepare_own(
    spark: SparkSession,
    source: str,
    out: Path,
    own: OwnLog,
    *,
    report: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Summary:
    """Read a log with columns of its own, as `prepare --dataset own` does, and write its tables.

    The same call goes on after an interruption, writes the days again whose rows have changed, and writes
    nothing if all is done.

    Args:
        spark: the session.
        source: path or URL of a Parquet file, or of a folder of them.
        out: a folder that this process and the executors share.
        own: a mapping, and tables of users and videos that this process reads.
        report: is called with the mapping, and with the faults that were found, as lines for people.
        on_progress: called with the share of the rows that is written.

    Raises:
        BadInput: as `training.data.prepare`; or there is no mapping, or the log is not Parquet.
    """
    if not (out / f"{STAGED}.json").is_file():
        refuse_existing(out)
    known, file = known_mapping(Path(source), own)
    if file is None:
        raise BadInput(
            f"--engine spark reads columns as a {MAPPING} says, and there is none beside the log; prepare a "
            "day of it on one machine, and give --mapping that day's."
        )
    log, files, digest = _open_source(spark, source)
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / ".work", ignore_errors=True)
    with database(Path(source), out) as (connection, _):
        sample = as_text(_relation(connection, log.limit(SAMPLE_ROWS).toArrow()))
        opened = Opened(
            TextTable(sample, files, {files[0]: sample.columns}, None),
            open_table(connection, "videos", own.videos) if own.videos else None,
            open_table(connection, "users", own.users) if own.users else None,
        )
        samples = {name: table.rows.limit(SAMPLE_ROWS) for name, table in opened.tables().items()}
        mapping = complete(known, opened, samples, own, guess=False)
        report(f"columns, as {file} says:\n{described(mapping)}")
        text = mapping.model_dump_json(indent=1, exclude_none=True) + "\n"
        others = [f"{p} {p.stat().st_size} {p.stat().st_mtime_ns}" for p in (own.videos, own.users) if p]
        digest = hashlib.sha256("\n".join([digest, text, *others]).encode()).hexdigest()[:16]
        staged = Staged.read(out)
        if staged is not None and staged.source == digest and (out / INFO).is_file():
            info = Info.model_validate_json((out / INFO).read_bytes())
            return Summary(out=out, info=info, files=())
        (out / INFO).unlink(missing_ok=True)
        videos, features = open_videos(connection, opened.videos, mapping)
        if staged is None or staged.source != digest or not (out / STAGED).is_dir():
            staged = _stage(spark, log, sample, mapping, videos, out, digest)
        for fault in staged.faults:
            report(f"dropped {fault}")
        refuse_lost_digits(staged.faults, Path(source))
        if not staged.days:
            raise BadInput(f"no row of {source} can be used; {'; '.join(map(str, staged.faults))}.")
        repeats = _merge_days(spark, staged, mapping, out, on_progress)
        for fault in repeats:
            report(f"dropped {fault}")
        written = spark.read.parquet(str(out / INTERACTIONS))
        sampled = pl.DataFrame(
            pl.from_arrow(written.select("watch_time_s", "duration_s").limit(SAMPLE_ROWS).toArrow())
        )
        check_medians(sampled, Path(source).name)
        write_videos(_relation(connection, _videos_of(written)), videos, out / VIDEOS, features)
        profile = write_users(connection, opened.users, mapping.users, out / USERS)
        extent = _extent(written, sorted(staged.days))
        faults = (*staged.faults, *repeats)
        info = describe(mapping, opened, faults, extent, profile, features)
    days = pl.scan_parquet(parts_of(out / INTERACTIONS))
    for name, key in ((USERS, "user_id"), (VIDEOS, "video_id")):
        check_joins(days, pl.scan_parquet(out / name), key, f"own: the table for {name}")
    for note in info.notes:
        report(note)
    replace_text(out / MAPPING, text)
    replace_text(out / INFO, info.model_dump_json(indent=2) + "\n")
    shutil.rmtree(out / STAGED)
    return Summary(out=out, info=info, files=tuple(sorted(path.name for path in out.iterdir())))


def _open_source(spark: SparkSession, source: str) -> tuple[DataFrame, tuple[Path, ...], str]:
    """Return the log, its files, and a digest of their names, sizes and times."""
    reader = spark.read.option("mergeSchema", "true").option("recursiveFileLookup", "true")
    log = read_parquet(reader.option("pathGlobFilter", "*.parquet"), source)
    if log is None:
        raise BadInput(f"{source}: there is no such file or folder, to read interactions from.")
    files = log.selectExpr(
        "_metadata.file_name AS name",
        "_metadata.file_size AS size",
        "unix_micros(_metadata.file_modification_time) AS time",
    )
    found = sorted(tuple(row) for row in files.distinct().collect())
    if not found:
        raise BadInput(
            f"{source} holds no rows in Parquet, which --engine spark reads; other files are for one machine."
        )
    return log, tuple(Path(name) for name, *_ in found), json.dumps(found)


def _stage(
    spark: SparkSession,
    log: DataFrame,
    sample: Relation,
    mapping: ColumnMapping,
    videos: Relation | None,
    out: Path,
    digest: str,
) -> Staged:
    """Write the rows of the log in our columns and units by day, and count those that cannot be used."""
    numbers = mapping.signals().numbers
    checked = rules(numbers)
    sources = (mapping.interactions | mapping.signal_sources()).values()
    rows = log.select([f"`{name}`" for name in sorted({name for of in sources for name in of.columns})])
    rows, sample = _computed(rows, sample, partial(_in_our_columns, mapping))
    if videos is not None:
        known = videos.project("video_id, " + ", ".join(f"{name} AS known_{name}" for name in FROM_VIDEOS))
        rows = rows.join(spark.createDataFrame(known.to_arrow_table()), "video_id", "left")
        sample = sample.join(known.set_alias("known"), "video_id", how="left")
        rows, sample = _computed(rows, sample, fill_from_videos)
    rows, _ = _computed(rows, sample, partial(check_rules, checked=checked, numbers=numbers))
    offset_ms = round(mapping.utc_offset_hours * 3_600_000)
    day = f"date_add(DATE'1970-01-01', CAST((timestamp_ms + {offset_ms}) div {DAY_MS} AS INT))"
    rows = rows.selectExpr("*", f"CASE WHEN reason IS NULL THEN CAST({day} AS STRING) END AS day")
    path = str(out / STAGED)
    rows.hint("rebalance", "day").write.mode("overwrite").partitionBy("day").parquet(path)
    written = spark.read.parquet(path).selectExpr("*", "CAST(day AS STRING) AS name")
    broken = written.filter("day IS NULL").groupBy("reason")
    counts = broken.agg(*expressions("count(*)", "min(found)")).collect()
    columns = staged_columns(numbers)
    per_day = written.filter("day IS NOT NULL").groupBy("name")
    found = per_day.agg(*expressions(*rows_and_checksum(columns))).collect()
    staged = Staged(
        digest,
        tuple(faults_of(((reason, rows, example) for reason, rows, example in counts), checked)),
        {name: Day(rows, hexadecimal(total)) for name, rows, total in found},
    )
    staged.write(out)
    return staged


def _computed(
    rows: DataFrame, sample: Relation, compute: Callable[[Relation], Relation]
) -> tuple[DataFrame, Relation]:
    """Return what DuckDB computes of rows on the executors, and of a sample here, which has the types."""
    sample = compute(sample)
    columns = zip(sample.columns, sample.types, strict=True)
    schema = ", ".join(f"`{name}` {_TYPES[kind.id]}" for name, kind in columns)
    return rows.mapInArrow(partial(_compute_batches, compute, sample.columns), schema), sample


def _merge_days(
    spark: SparkSession,
    staged: Staged,
    mapping: ColumnMapping,
    out: Path,
    on_progress: Callable[[float], None],
) -> list[Fault]:
    """Write the days that are not written yet, and return why rows of all days are left out."""
    target = out / INTERACTIONS
    done = read_manifest(spark, str(target))
    for name in done.keys() - staged.days.keys():
        shutil.rmtree(target / MANIFEST / f"day={name}", ignore_errors=True)
        shutil.rmtree(target / f"day={name}", ignore_errors=True)
    read = unique = kept = 0
    total = sum(day.rows for day in staged.days.values())
    for name, day in sorted(staged.days.items()):
        written = done.get(name)
        if written is None or written.note["source"] != day.checksum:
            rows = spark.read.parquet(str(out / STAGED / f"day={name}")).drop("reason", "found")
            note = {"source": day.checksum, "read": day.rows, "unique": rows.distinct().count()}
            written = write_partition(spark, _merged(rows, mapping), str(target), name, note, column="day")
        read, unique, kept = read + day.rows, unique + written.note["unique"], kept + written.rows
        on_progress(read / total)
    return faults_of_repeats(read, unique, kept)


def _merged(rows: DataFrame, mapping: ColumnMapping) -> DataFrame:
    """The rows of a day without duplicates, oldest first, as `own_log._rows.merge` has them."""
    signals, key = mapping.signals(), ", ".join(KEY)
    largest = [f"max(`{name}`) OVER (PARTITION BY {key}) AS `largest_{name}`" for name in signals.numbers]
    exposures = (
        rows.distinct()
        .selectExpr(
            "*",
            f"bit_or(flags) OVER (PARTITION BY {key}) AS all_flags",
            *largest,
            f"row_number() OVER (PARTITION BY {key} ORDER BY watch_time_s DESC, duration_s DESC, "
            "tab NULLS LAST, author_id NULLS LAST, tag NULLS LAST) AS copy",
        )
        .filter("copy = 1")
    )
    bits = {
        name: f"(shiftright(all_flags, {bit}) & 1) = 1 AS `{name}`"
        for bit, name in enumerate((*FLAGS, *signals.flags))
    }
    return exposures.selectExpr(
        *KEY,
        "watch_time_s",
        "duration_s",
        *(bits[name] for name in FLAGS),
        *("tab", "author_id", "tag"),
        *(bits[name] for name in signals.flags),
        *(f"`largest_{name}` AS `{name}`" for name in signals.numbers),
    ).orderBy("timestamp_ms", "user_id", "video_id")


def _videos_of(log: DataFrame) -> pa.Table:
    """The videos of a log, as those of one machine are computed."""
    newest = (
        f"max_by({name}, timestamp_ms) FILTER (WHERE {name} IS NOT NULL) AS {name}" for name in OF_VIDEOS
    )
    seen = log.groupBy("video_id").agg(*expressions("max(duration_s) AS duration_s", *newest))
    return seen.toArrow()


def _extent(log: DataFrame, days: list[str]) -> LogExtent:
    (found,) = log.selectExpr(
        "count(*) AS rows",
        "count(DISTINCT user_id) AS users",
        "count(DISTINCT video_id) AS videos",
        "min(timestamp_ms) AS first_timestamp_ms",
        "max(timestamp_ms) AS last_timestamp_ms",
    ).collect()
    return LogExtent(**found.asDict(), days=tuple(days))


def _in_our_columns(mapping: ColumnMapping, rows: Relation) -> Relation:
    return type_rows(as_text(rows), mapping)


def _compute_batches(
    compute: Callable[[Relation], Relation], columns: Sequence[str], batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Compute the rows of a task. Spark goes by the places of columns."""
    import pyarrow as pa

    with duckdb.connect(config={"threads": 1}) as connection:
        for batch in batches:
            computed = compute(_relation(connection, pa.Table.from_batches([batch])))
            yield from computed.to_arrow_table().select(columns).to_batches()


def _relation(connection: Connection, table: pa.Table) -> Relation:
    return connection.from_arrow(table)
