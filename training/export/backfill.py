"""Labels of a log of many partitions by a new bundle: priced before, resumable, compared with the old ones.

    DATA/2026-05-01/interactions.parquet    what `prepare` wrote, a folder a partition
    OUT/2026-05-01.parquet                  its labels, as `label` writes them
    OUT/2026-05-01.changes.json             sums of the comparison with the bundle before

A partition's files appear whole or not at all, so that whatever ends a backfill, the same command goes on.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

import polars as pl

from models.errors import BadInput
from models.manifest import PERCENTILES
from training.data import INTERACTIONS, USERS, feedback_columns, scan_interactions
from training.evaluation.evaluate import open_bundle, version_folder
from training.export.batch_label import BATCH_ROWS, GroupIds, label_log
from training.export.label_changes import LabelChange

SAMPLE_ROWS: Final = 65_536
"""Rows that are labelled to price the rest."""

_BUNDLE, _SOURCE = "reelrank.bundle", "reelrank.source"


class Partition(NamedTuple):
    """A part of the log."""

    name: str
    folder: Path
    rows: int


class Price(NamedTuple):
    """What a backfill will take, by a sample of its largest partition."""

    partitions: int
    rows: int
    core_hours: float
    gigabytes: float
    """Of labels."""


class Task(NamedTuple):
    """What is done to every partition."""

    bundle: Path
    before: Path | None
    labels: tuple[str, ...]
    out: Path
    note: dict[str, str]


def read_partitions(data: Path) -> list[Partition]:
    """Return the partitions of a log, by name: the folders in `data` that `prepare` wrote, or `data` itself.

    Raises:
        BadInput: there is none, or one has no rows or cannot be read.
    """
    folders = (
        [data]
        if (data / INTERACTIONS).is_file()
        else sorted(p.parent for p in data.glob(f"*/{INTERACTIONS}"))
    )
    if not folders:
        raise BadInput(
            f"{data} holds neither {INTERACTIONS} nor folders with one; write each partition by `prepare`."
        )
    return [Partition(folder.resolve().name, folder, scan_interactions(folder, 1).rows) for folder in folders]


def left_to_do(partitions: Sequence[Partition], task: Task) -> list[Partition]:
    """Return the partitions whose labels are missing, or are of a log that has changed since.

    Raises:
        BadInput: the folder holds labels of another bundle.
    """
    version = version_folder(task.bundle).name
    left = []
    for partition in partitions:
        labels, changes = _paths(partition, task.out)
        if not labels.is_file():
            left.append(partition)
            continue
        note = pl.read_parquet_metadata(labels)
        if note.get(_BUNDLE) != version:
            raise BadInput(
                f"{labels} has labels of bundle {note.get(_BUNDLE)}, not of {version}; give a new folder."
            )
        has_all = set(task.labels) <= set(pl.read_parquet_schema(labels))
        compared = task.before is None or _is_of(changes, version_folder(task.before).name)
        if note.get(_SOURCE) != _source(partition) or not has_all or not compared:
            left.append(partition)
    return left


def price(partitions: Sequence[Partition], task: Task) -> Price:
    """Label a sample of the largest partition, and return what all partitions will take."""
    rows = sum(partition.rows for partition in partitions)
    largest = max(partitions, key=lambda partition: partition.rows)
    with tempfile.TemporaryDirectory(prefix="reelrank-backfill-") as folder:
        sample = Partition("sample", Path(folder) / "sample", min(SAMPLE_ROWS, largest.rows))
        sample.folder.mkdir()
        log = pl.scan_parquet(largest.folder / INTERACTIONS).head(sample.rows)
        log.sink_parquet(sample.folder / INTERACTIONS)
        if (largest.folder / USERS).is_file():
            (sample.folder / USERS).symlink_to((largest.folder / USERS).resolve())
        began_s = time.process_time()
        label_partition(sample, task._replace(out=Path(folder)))
        seconds = time.process_time() - began_s
        size = _paths(sample, Path(folder))[0].stat().st_size
    scale = rows / sample.rows
    return Price(len(partitions), rows, seconds * scale / 3600, size * scale / 1e9)


def backfill(
    partitions: Sequence[Partition],
    task: Task,
    *,
    jobs: int = 1,
    on_progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Label partitions, some at once, each whole or not at all.

    Args:
        partitions: those that are left.
        task: what is done to them.
        jobs: processes.
        on_progress: called with the share of the rows that is done.

    Raises:
        BadInput: as `label_log`; what was labelled before stays.
    """
    rows, done = sum(partition.rows for partition in partitions), 0
    for partition in _labelled(partitions, task, jobs):
        done += partition.rows
        on_progress(done / rows)


def _labelled(partitions: Sequence[Partition], task: Task, jobs: int) -> Iterable[Partition]:
    if jobs == 1:
        for partition in partitions:
            label_partition(partition, task)
            yield partition
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(label_partition, partition, task): partition for partition in partitions}
        for future, partition in running.items():
            future.result()
            yield partition


def label_partition(partition: Partition, task: Task) -> None:
    """Write the labels of a partition, and how they differ from the bundle's before."""
    labels, changes = _paths(partition, task.out)
    source = _source(partition)
    changes.unlink(missing_ok=True)
    labels.unlink(missing_ok=True)
    note = task.note | {_SOURCE: source}
    label_log(open_bundle(task.bundle), partition.folder, labels, labels=task.labels, note=note)
    if task.before is not None:
        found = {name: change.sums() for name, change in _changes(partition, task, labels).items()}
        draft = changes.with_name(f".{changes.name}.{os.getpid()}")
        draft.write_text(json.dumps({"before": version_folder(task.before).name, "labels": found}))
        draft.replace(changes)


def _changes(partition: Partition, task: Task, labels: Path) -> dict[str, LabelChange]:
    assert task.before is not None
    bundle = open_bundle(task.before)
    served = bundle.manifest.labels
    written = pl.scan_parquet(labels)
    names = [name for name in written.collect_schema().names() if name in served]
    outputs = [*names, *bundle.labeler_outputs & {PERCENTILES}]
    groups = GroupIds.of_log(bundle, partition.folder, names)
    changes = {name: LabelChange() for name in names}
    start = 0
    for part in scan_interactions(partition.folder, BATCH_ROWS).batches:
        after = written.slice(start, len(part)).collect()
        start += len(part)
        feedback = feedback_columns(part, bundle.manifest.signals)
        found = bundle.run_labeler({"feedback": feedback, "group_ids": groups(part)}, outputs)
        for name, change in changes.items():
            before_N = found[name].clip(0.0, 1.0).astype(float)
            after_N = after[name].cast(pl.Float64).to_numpy()
            shift_N = abs(after_N - before_N)
            if PERCENTILES in found and f"{name}_percentile" in after.columns:
                percentile_N = found[PERCENTILES][:, served.index(name)].astype(float)
                shift_N = abs(after[f"{name}_percentile"].cast(pl.Float64).to_numpy() - percentile_N)
            change.add(before_N, after_N, shift_N)
    return changes


def total_changes(partitions: Sequence[Partition], out: Path) -> dict[str, dict[str, Any]]:
    """Return by label how it has changed over all partitions, see `LabelChange.figures`."""
    total: dict[str, LabelChange] = {}
    for partition in partitions:
        found = json.loads(_paths(partition, out)[1].read_text())["labels"]
        for name, sums in found.items():
            total.setdefault(name, LabelChange()).merge(LabelChange(sums))
    return {name: change.figures() for name, change in total.items()}


def _paths(partition: Partition, out: Path) -> tuple[Path, Path]:
    return out / f"{partition.name}.parquet", out / f"{partition.name}.changes.json"


def _is_of(changes: Path, version: str) -> bool:
    return changes.is_file() and json.loads(changes.read_text())["before"] == version


def _source(partition: Partition) -> str:
    """A log that was written again has another time or size."""
    stat = (partition.folder / INTERACTIONS).stat()
    return f"{stat.st_size} {stat.st_mtime_ns}"
