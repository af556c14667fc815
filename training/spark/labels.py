"""The labels of a log, by any bundle, a partition after the other."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import polars as pl

from models.errors import BadInput
from models.manifest import PERCENTILES
from models.runtime import Bundle
from training.data import INTERACTION_SCHEMA, USERS, check_medians, checked_rows
from training.export.batch_label import GroupIds, Labelled, chosen_labels, grouping_feature, label_rows
from training.spark.partitions import Partition, read_manifest, read_partitions, write_partition
from training.spark.session import read_parquet

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

GROUP: Final = "__group"
"""Column with the profile feature that groups users."""
SAMPLE_ROWS: Final = 100_000
"""Of a partition, whose medians are checked."""


class Files(NamedTuple):
    """A bundle's files by name, as a task takes them with it; Spark broadcasts what is over a megabyte."""

    version: str
    content: tuple[tuple[str, bytes], ...]

    @classmethod
    def read(cls, folder: Path) -> Files:
        """Read a version's folder."""
        files = sorted(path for path in folder.iterdir() if path.is_file())
        return cls(folder.name, tuple((path.name, path.read_bytes()) for path in files))


def label_log(
    spark: SparkSession,
    folder: Path,
    data: str,
    out: str,
    *,
    labels: Sequence[str] = (),
    note: Mapping[str, str] | None = None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Labelled:
    """Write the labels of every row of a log, as `batch_label.label_log` does, a partition at a time.

    The same call goes on after an interruption, labels a partition again whose log was written anew, and
    writes nothing if all is done.

    Args:
        spark: the session.
        folder: of one version of a bundle.
        data: path or URL of a log, see `training.spark.partitions`.
        out: path or URL of a folder for `partition=NAME` with the columns of `label` in no order, and the
            manifest.
        labels: which; none means all that the bundle serves.
        note: goes into the manifest.
        on_progress: called with the share of the rows that is done.

    Returns:
        What was written now.

    Raises:
        BadInput: the bundle does not serve a label, `out` has labels of another bundle, or a row breaks its
            rules.
    """
    files = Files.read(folder)
    bundle = Bundle.load(folder)
    names = chosen_labels(bundle, labels)
    partitions = read_partitions(spark, data)
    left = _left(partitions, read_manifest(spark, out), files.version, names)
    feature = grouping_feature(bundle, names)
    needed = {*INTERACTION_SCHEMA, *bundle.manifest.signals.names}
    percentiles = PERCENTILES in bundle.labeler_outputs
    done, total = 0, sum(partition.rows for partition in left)
    for partition in left:
        rows = spark.read.parquet(*partition.files)
        rows = rows.select([name for name in rows.columns if name in needed])
        _check_sample(rows, partition)
        if feature is not None:
            rows = _with_groups(spark, rows, partition, feature)
        labelled = rows.mapInArrow(
            partial(_label_batches, files, names, partition.name), _schema(names, percentiles)
        )
        about = {"bundle": files.version, "source": partition.source, "labels": names, **(note or {})}
        written = write_partition(spark, labelled, out, partition.name, about)
        if written.rows != partition.rows:
            raise BadInput(
                f"partition {partition.name} had {partition.rows:,} rows and {written.rows:,} were labelled: "
                "its log changed meanwhile; run the command again."
            )
        done += partition.rows
        on_progress(done / total)
    return Labelled(done, names, files.version)


def _left(
    partitions: Sequence[Partition], manifest: Mapping[str, Any], version: str, names: Sequence[str]
) -> list[Partition]:
    left = []
    for partition in partitions:
        if (written := manifest.get(partition.name)) is not None:
            if written.note["bundle"] != version:
                raise BadInput(
                    f"partition {partition.name} has labels of bundle {written.note['bundle']}, not of "
                    f"{version}; give a new folder."
                )
            if written.note["source"] == partition.source and set(names) <= set(written.note["labels"]):
                continue
        left.append(partition)
    return left


def _check_sample(rows: DataFrame, partition: Partition) -> None:
    """Units show in medians, and not in the few rows of a batch."""
    sample = pl.DataFrame(pl.from_arrow(rows.limit(SAMPLE_ROWS).toArrow()))
    check_medians(checked_rows(sample, f"partition {partition.name}"), f"partition {partition.name}")


def _with_groups(spark: SparkSession, rows: DataFrame, partition: Partition, feature: str) -> DataFrame:
    users = read_parquet(spark.read, f"{partition.folder}/{USERS}")
    if users is None or feature not in users.columns:
        return rows
    of_user = users.selectExpr("user_id", f"`{feature}` AS {GROUP}").dropna()
    twice = of_user.groupBy("user_id").count().filter("count > 1").head()
    if twice is not None:
        raise BadInput(f"{USERS} lists user {twice.user_id!r} twice; keep one row for each.")
    return rows.join(of_user, "user_id", "left")


def _schema(names: Sequence[str], percentiles: bool) -> str:
    columns = ["user_id string", "video_id string", "timestamp_ms long"]
    for name in names:
        columns += [f"`{name}` float"] + [f"`{name}_percentile` float"] * percentiles
    return ", ".join(columns)


def _label_batches(
    files: Files, names: Sequence[str], partition: str, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Label the rows of a task."""
    bundle = _bundle(files)
    for batch in batches:
        rows = checked_rows(pl.DataFrame(pl.from_arrow(batch)), f"a part of partition {partition}")
        values = dict(rows.select("user_id", GROUP).drop_nulls().iter_rows()) if GROUP in rows.columns else {}
        labelled = label_rows(bundle, rows, names, GroupIds(bundle, values)(rows))
        yield from labelled.to_arrow(compat_level=pl.CompatLevel.oldest()).to_batches()


@lru_cache(maxsize=1)
def _bundle(files: Files) -> Bundle:
    """Once a process of an executor, not once a task."""
    with tempfile.TemporaryDirectory(prefix="reelrank-bundle-") as root:
        folder = Path(root) / files.version
        folder.mkdir()
        for name, content in files.content:
            (folder / name).write_bytes(content)
        return Bundle.load(folder)
