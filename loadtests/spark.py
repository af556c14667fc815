"""`python -m loadtests.spark`: one log prepared and labelled by one process, and on Spark with faults.

A log of one's own, a fifth of whose rows is one user's, goes through `prepare` and `label`: in this process,
and on a `local-cluster` of one and of two executor processes with speculation. In a last run executors are
killed with -9 when a third and two thirds of the tasks of a stage are done. Every result is compared with
that of one process, and computed a second time, which must write nothing; if not, the exit code is 1. Needs
the extras `train` and `spark`.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import polars as pl
import typer

from loadtests.command import BundleOption, JsonOption, log_progress, make_app, print_report, run
from loadtests.environment import version_folder
from loadtests.host import OtherLoad, child_processes, cpu_ms
from models.runtime import Bundle
from training.data import INTERACTIONS, OwnLog, prepare
from training.data.own_log import MAPPING
from training.export.batch_label import label_log
from training.spark import label_log as label_log_by_spark
from training.spark import prepare_own, spark_session

LABELS: Final = ("labelcraft", "d2q")
KEYS: Final = ["timestamp_ms", "user_id", "video_id"]
SHARE_OF_ONE_USER: Final = 0.2
DAYS: Final = 2
FILES: Final = 12
"""Of the log, and row groups once it is prepared; a task reads one."""

ROW_BYTES: Final = 32
"""Of a prepared log in Parquet, roughly."""

TOLERANCE: Final = 1e-5
"""Of a label, whose last bits depend on how many rows a batch has."""

MIN_TASKS: Final = 6
"""Of a stage in which executors are killed."""

COLUMNS: Final = (
    "user_id=uid,video_id=vid,timestamp_ms=ts:ms,watch_time_s=played:ms,duration_s=length:ms,"
    "like=liked,tag=category"
)
SOUND: Final = ("equal", "second_run_writes_nothing")
CLUSTERS: Final = {"one_executor": 1, "two_executors": 2, "two_executors_killed": 2}
EXECUTOR: Final = "CoarseGrainedExecutorBackend"


def main(
    rows: Annotated[int, typer.Option(min=10_000, help="Number of exposures.")] = 5_000_000,
    bundle: BundleOption = None,
    json_file: JsonOption = None,
) -> None:
    """Prepare and label a log by one process and on Spark, and print figures as JSON."""
    version, others = version_folder(bundle), OtherLoad()
    with tempfile.TemporaryDirectory(prefix="spark-") as folder:
        root = Path(folder)
        write_log(root / "log", rows)
        figures = {"one_process": one_process(version, root)}
        log_progress("spark", f"one process: {figures['one_process']}")
        for name, executors in CLUSTERS.items():
            with settings(root / "conf", rows):
                figures[name] = on_spark(name, executors, version, root)
            log_progress("spark", f"{name}: {figures[name]}")
    for found in figures.values():
        for step in ("prepare", "label"):
            found[step]["rows_per_s"] = round(rows / found[step]["seconds"])
    setting = {"rows": rows, "share_of_one_user": SHARE_OF_ONE_USER, "labels": LABELS}
    report = {"bundle": version.name, "setting": setting, "others_share": others.share(), "figures": figures}
    print_report(f"python -m loadtests.spark --rows {rows}", report, json_file)
    if not all(found.get(fact, True) for found in figures.values() for fact in SOUND):
        sys.exit(1)


def write_log(folder: Path, rows: int) -> None:
    """Write a log in Parquet, with rows that cannot be used and some that are there twice."""
    rng = np.random.default_rng(1)
    folder.mkdir()
    user = np.where(rng.random(rows) < SHARE_OF_ONE_USER, 0, rng.integers(1, rows // 50, size=rows))
    log = pl.DataFrame(
        {
            "uid": user,
            "vid": rng.integers(20_000, size=rows),
            "ts": 1_767_225_600_000 + rng.integers(DAYS * 86_400_000, size=rows),
            "played": rng.exponential(9_000, rows).round(),
            "length": rng.uniform(5_000, 60_000, rows).round(),
            "liked": rng.random(rows) < 0.05,
            "category": rng.integers(50, size=rows),
        }
    )
    spoiled = pl.int_range(rows) % 1_000 == 7
    log = log.with_columns(played=pl.when(spoiled).then(-1.0).otherwise("played"))
    twice = log.gather_every(200)
    # As if a like had come later: the same exposure, logged again.
    liked = log.gather_every(300).with_columns(liked=pl.lit(value=True), played=pl.col("played") + 1.0)
    log = pl.concat([log, twice, liked])
    for number in range(FILES):
        log[number::FILES].write_parquet(folder / f"{number:02d}.parquet")


def one_process(version: Path, root: Path) -> dict[str, Any]:
    """Prepare and label the log in this process."""
    own = OwnLog(changes=(COLUMNS,))
    prepared = timed(
        lambda: prepare("own", root / "log", root / "one", own=own, progress=False), time.process_time
    )
    log = root / "one" / INTERACTIONS
    rows = pl.read_parquet(log)
    rows.write_parquet(log, row_group_size=len(rows) // FILES)
    bundle = Bundle.load(version)
    labelled = timed(
        lambda: label_log(bundle, root / "one", root / "one.parquet", labels=LABELS), time.process_time
    )
    return {"prepare": prepared, "label": labelled}


def on_spark(name: str, executors: int, version: Path, root: Path) -> dict[str, Any]:
    """Prepare and label the log on a cluster of processes, and compare."""
    out, labels, began = root / name, root / f"{name}-labels", time.perf_counter()
    own = OwnLog(mapping=root / "one" / MAPPING)
    with new_java(), spark_session(f"local-cluster[{executors},1,1024]") as spark:
        started = round(time.perf_counter() - began, 1)
        java = spark.sparkContext._gateway.proc.pid

        def prepare_it() -> None:
            prepare_own(spark, str(root / "log"), out, own)

        def label_it() -> None:
            label_log_by_spark(spark, version, str(root / "one"), str(labels), labels=LABELS)

        kills = name.endswith("killed")
        found: dict[str, Any] = {"start_s": started}
        for step, compute in (("prepare", prepare_it), ("label", label_it)):
            killer = Killer(spark, java) if kills else None
            found[step] = timed(compute, lambda: tree_cpu_s(java))
            if killer is not None:
                found[step]["killed_after_tasks"] = killer.stop()
        before = files_of(out, labels)
        prepare_it()
        label_it()
        found["second_run_writes_nothing"] = files_of(out, labels) == before
    found |= compare(root, out, labels)
    return found


def compare(root: Path, out: Path, labels: Path) -> dict[str, Any]:
    """Compare with what one process has written, after sorting."""
    one = pl.read_parquet(root / "one" / INTERACTIONS).sort(KEYS)
    ours = pl.read_parquet(out / INTERACTIONS / "*" / "*.parquet", hive_partitioning=False).sort(KEYS)
    same_rows = one.equals(ours)
    del one, ours
    one = pl.read_parquet(root / "one.parquet").sort(KEYS)
    ours = pl.read_parquet(labels / "*" / "*.parquet", hive_partitioning=False).sort(KEYS)
    same_keys = one.select(KEYS).equals(ours.select(KEYS))
    values = [column for column in one.columns if column not in KEYS]
    distances = pl.DataFrame([(one[name] - ours[name]).abs() for name in values]) if same_keys else None
    apart = None if distances is None else distances.max().max_horizontal().item()
    equal = same_rows and apart is not None and apart <= TOLERANCE
    return {"equal": equal, "largest_difference_of_a_label": apart}


def timed(compute: Callable[[], object], cpu_s: Callable[[], float]) -> dict[str, Any]:
    """Return seconds and seconds of processors."""
    began, cpu = time.perf_counter(), cpu_s()
    compute()
    return {"seconds": round(time.perf_counter() - began, 1), "cpu_s": round(cpu_s() - cpu, 1)}


def tree_cpu_s(pid: int) -> float:
    """Return the processor time of a process and all below it, those that have ended included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ended = (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")
    return cpu_ms(pid) / 1000 + ended + sum(map(tree_cpu_s, child_processes(pid)))


class Killer(threading.Thread):
    """Kills an executor with -9 when a third of a stage's tasks are done, and another at two thirds.

    Args:
        spark: the session.
        java: pid of its driver's Java, whose children the executors are.
    """

    def __init__(self, spark: Any, java: int) -> None:
        super().__init__(daemon=True)
        self._tracker, self._java = spark.sparkContext.statusTracker(), java
        self._killed: list[int] = []
        self._ended = threading.Event()
        self.start()

    def run(self) -> None:
        """Watch the stages."""
        while not self._ended.wait(0.1) and len(self._killed) < 2:
            for number in self._tracker.getActiveStageIds():
                stage = self._tracker.getStageInfo(number)
                if stage is None or stage.numTasks < MIN_TASKS:
                    continue
                if stage.numCompletedTasks * 3 >= stage.numTasks * (len(self._killed) + 1):
                    self._kill(stage.numCompletedTasks)
                    break

    def _kill(self, tasks: int) -> None:
        for pid, line in child_processes(self._java).items():
            if EXECUTOR in line:
                os.kill(pid, signal.SIGKILL)
                self._killed.append(tasks)
                return

    def stop(self) -> list[int]:
        """Return after how many tasks an executor was killed."""
        self._ended.set()
        self.join()
        return self._killed


def files_of(*folders: Path) -> dict[Path, int]:
    """Return when every file was written."""
    return {
        path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*") if path.is_file()
    }


@contextmanager
def new_java() -> Iterator[None]:
    """End the driver's Java afterwards, so that every cluster starts with a cold one."""
    from pyspark import SparkContext

    try:
        yield
    finally:
        gateway = SparkContext._gateway
        SparkContext._gateway = SparkContext._jvm = None
        if gateway is not None:
            gateway.shutdown()
            gateway.proc.stdin.close()
            gateway.proc.wait()


@contextmanager
def settings(folder: Path, rows: int) -> Iterator[None]:
    """Have Spark cut a log of so many rows into tasks, speculate as soon as it may, and bind to loopback."""
    folder.mkdir(exist_ok=True)
    options = {
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.executorEnv.PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "spark.speculation": "true",
        "spark.speculation.multiplier": "1.2",
        "spark.speculation.quantile": "0.5",
        "spark.sql.files.maxPartitionBytes": str(rows * ROW_BYTES // FILES),
        "spark.sql.shuffle.partitions": "8",
        "spark.ui.enabled": "false",
    }
    (folder / "spark-defaults.conf").write_text(
        "".join(f"{name} {value}\n" for name, value in options.items())
    )
    before = {name: os.environ.get(name) for name in ("SPARK_CONF_DIR", "SPARK_LOCAL_IP")}
    os.environ.update(SPARK_CONF_DIR=str(folder), SPARK_LOCAL_IP="127.0.0.1")
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


app = make_app("spark", main)

if __name__ == "__main__":
    run(app)
