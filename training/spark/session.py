"""Sessions of Spark, and its errors in one line. Nothing else imports pyspark."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from models.errors import BadInput

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession

BATCH_ROWS: Final = 65_536
"""That a task computes at a time; Spark's own 10,000 make DuckDB plan its query more often."""
_REFUSED: Final = re.compile(r"models\.errors\.BadInput: (.+)")
"""In the traceback of a task."""


@contextmanager
def spark_session(master: str | None = None, remote: str | None = None) -> Iterator[SparkSession]:
    """Open a session and stop it at the end.

    Args:
        master: `local[4]`, `spark://HOST:7077`, `yarn`, ...; by default what spark-submit or
            `spark-defaults.conf` says, or all cores of this machine.
        remote: address of a Spark Connect server, `sc://HOST:15002`, in place of a master.

    Raises:
        BadInput: the extra `spark` or Java is not installed, both addresses are given, or no session can be
            opened; within it, a task has refused a row, a file cannot be read or written, or the job failed.
    """
    if master and remote:
        raise BadInput("give one of --master and --remote.")
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ModuleNotFoundError as e:
        raise BadInput(
            f"--engine spark needs the extra `spark` ({e.name} is not installed): "
            "pip install 'reelrank[spark]'."
        ) from e
    if not remote and not has_java():
        raise BadInput("--engine spark needs Java 17 or later; install it, or name its folder in JAVA_HOME.")
    if not remote and (master or "local").startswith("local"):
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # of the executors; otherwise `python3`
    builder = SparkSession.builder.appName("reelrank").config("spark.ui.showConsoleProgress", "false")
    builder = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", str(BATCH_ROWS))
    if not remote and "SPARK_ENV_LOADED" not in os.environ:  # spark-submit logs as the operator says
        builder = builder.config("spark.log.level", "FATAL")
    if remote:
        builder = builder.remote(remote)
    elif master:
        builder = builder.master(master)
    try:
        session = builder.getOrCreate()
    except Exception as e:  # of gRPC, of Java, or of Spark
        raise BadInput(f"no session of Spark at {remote or master or 'local[*]'}: {_first_line(e)}.") from e
    try:
        yield session
    except PySparkException as e:
        refused = _REFUSED.search(str(e))
        raise BadInput(refused[1] if refused else f"Spark stopped: {_first_line(e)}.") from e
    finally:
        session.stop()


def has_java() -> bool:
    """Return whether there is a Java that Spark will find."""
    home = os.environ.get("JAVA_HOME")
    return shutil.which(f"{home}/bin/java" if home else "java") is not None


def expressions(*texts: str) -> list[Column]:
    """Return columns of SQL, for aggregates of groups."""
    from pyspark.sql import functions

    return [functions.expr(text) for text in texts]


def read_parquet(reader: DataFrameReader, *paths: str) -> DataFrame | None:
    """Return what Parquet files hold, or nothing if there are none."""
    from pyspark.errors import AnalysisException

    try:
        found = reader.parquet(*paths)
        found.schema  # noqa: B018 - Connect asks its server only now
    except AnalysisException as e:
        if e.getCondition() == "PATH_NOT_FOUND":
            return None
        raise
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
