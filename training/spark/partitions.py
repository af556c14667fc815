"""Partitions of a log on whatever Spark reads, and the manifest of those that are done.

DATA/interactions.parquet                       one partition
DATA/interactions.parquet/day=2026-05-01/       a partition a day, as `prepare --engine spark` writes it
DATA/2026-05-01/interactions.parquet            a partition a folder, as `backfill` takes it

OUT/partition=2026-05-01/part-*.parquet         what was computed of it
OUT/_manifest/partition=2026-05-01/part-*.json  its rows, checksum and origin
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

from models.errors import BadInput
from training.data import INTERACTIONS
from training.spark.session import read_parquet

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

MANIFEST: Final = "_manifest"
"""Spark takes what begins so for none of its data."""


class Partition(NamedTuple):
    """A part of a log."""

    name: str
    folder: str
    """That holds its `interactions.parquet`, and the table of users."""
    files: tuple[str, ...]
    rows: int
    source: str
    """Digest of its files' names, sizes and times: a log that was written again has another one."""


class Written(NamedTuple):
    """What the manifest says of a partition."""

    rows: int
    checksum: str
    """Sum of `xxhash64` over its rows, whatever their order, modulo 2⁶⁴, in hexadecimal digits."""
    note: Mapping[str, Any]


def read_partitions(spark: SparkSession, data: str) -> list[Partition]:
    """Return the partitions of a log, by name.

    Raises:
        BadInput: there is none.
    """
    log = read_parquet(spark.read, f"{data}/{INTERACTIONS}")
    if log is None:
        log = read_parquet(spark.read, f"{data}/*/{INTERACTIONS}")
    if log is None:
        raise BadInput(f"{data} holds neither {INTERACTIONS} nor folders with one; write it by `prepare`.")
    files = log.selectExpr(
        "_metadata.file_path AS path",
        "_metadata.file_size AS size",
        "unix_micros(_metadata.file_modification_time) AS time",
    )
    found: dict[tuple[str, str], list[tuple[str, int, int, int]]] = {}
    for path, size, time, rows in files.groupBy("path", "size", "time").count().collect():
        file = PurePosixPath(path)
        inside = [part for part in file.parts[:-1] if part != INTERACTIONS]
        name = unquote(inside[-1].rpartition("=")[2])
        folder = unquote(path.partition(f"/{INTERACTIONS}")[0])
        found.setdefault((name, folder), []).append((unquote(path), size, time, rows))
    return [
        Partition(
            name,
            folder,
            tuple(path for path, *_ in sorted(files)),
            sum(rows for *_, rows in files),
            hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()[:16],
        )
        for (name, folder), files in sorted(found.items())
    ]


def read_manifest(spark: SparkSession, out: str) -> dict[str, Written]:
    """Return what is done, by partition."""
    from pyspark.errors import AnalysisException

    try:
        lines = spark.read.text(f"{out}/{MANIFEST}/*").collect()
    except AnalysisException as e:
        if e.getCondition() == "PATH_NOT_FOUND":
            return {}
        raise
    found = (json.loads(line.value) for line in lines)
    return {of.pop("partition"): Written(of.pop("rows"), of.pop("checksum"), of) for of in found}


def write_partition(
    spark: SparkSession,
    rows: DataFrame,
    out: str,
    name: str,
    note: Mapping[str, Any],
    *,
    column: str = "partition",
) -> Written:
    """Write a partition in place of what is there, read it back, and add it to the manifest.

    Spark commits a task once, whichever attempt is first, and the manifest names a partition only when all of
    it is there.

    Args:
        spark: the session.
        rows: of the partition.
        out: folder of all partitions.
        name: of the partition.
        note: of the manifest, beside rows and checksum.
        column: whose value the partition's name is.
    """
    folder = f"{out}/{column}={name}"
    rows.write.mode("overwrite").parquet(folder)
    written = checksum(spark.read.parquet(folder))._replace(note=note)
    line = json.dumps({"partition": name, "rows": written.rows, "checksum": written.checksum, **note})
    manifest = spark.createDataFrame([(line,)], "value string").coalesce(1)
    manifest.write.mode("overwrite").text(f"{out}/{MANIFEST}/{column}={name}")
    return written


def checksum(rows: DataFrame) -> Written:
    """Return the number of rows and their checksum."""
    (found,) = rows.selectExpr(*rows_and_checksum(rows.columns)).collect()
    return Written(found[0], hexadecimal(found[1]), {})


def rows_and_checksum(columns: Sequence[str]) -> tuple[str, str]:
    """Return the aggregates that count rows and sum up their hashes."""
    quoted = ", ".join(f"`{name}`" for name in columns)
    return "count(*)", f"sum(CAST(xxhash64({quoted}) AS DECIMAL(38, 0)))"


def hexadecimal(total: Decimal | None) -> str:
    """Return a sum of hashes as the manifest has it."""
    return f"{int(total or 0) % 2**64:016x}"
