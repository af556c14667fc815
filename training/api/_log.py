"""A log in memory, read from a frame, a file or a folder."""

from __future__ import annotations

import html
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from training.data import Dataset, OwnLog, load, prepare
from training.data.own_log import MAPPING


@dataclass(frozen=True, repr=False)
class Log:
    """A log in memory: exposures, users and videos, checked and in seconds.

    `frame` has the exposures as a Polars frame, `notes` what was understood of the columns and what was
    dropped.
    """

    dataset: Dataset
    notes: tuple[str, ...] = ()

    @property
    def frame(self) -> pl.DataFrame:
        """Every exposure, oldest first, with the columns of `interactions.parquet`."""
        return self.dataset.log

    def __len__(self) -> int:
        return len(self.dataset.log)

    def __repr__(self) -> str:
        info = self.dataset.info
        return (
            f"Log of {len(self):,} exposures: {info.users:,} users, {info.videos:,} videos, "
            f"{info.days[0]} to {info.days[-1]}"
        )

    def _repr_html_(self) -> str:
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return f"<p>{html.escape(repr(self))}</p><ul>{notes}</ul>{self.frame.head()._repr_html_()}"


def read_log(source: Any, columns: Mapping[str, str] | None = None) -> Log:
    """Read a log of one's own, checked and in seconds.

    Args:
        source: a frame of Polars, pandas or Arrow; a CSV, NDJSON or Parquet file; a folder of such files; or
            one that `prepare` wrote.
        columns: by our column the one of the log that it is read from, as `prepare --map` takes it, such as
            `{"user_id": "uid", "watch_time_s": "played:ms"}`. What is not given is guessed.

    Returns:
        The log. Rows that cannot be used are left out; its notes count them.

    Raises:
        BadInput: the log cannot be read, a column cannot be guessed, or no row can be used.
    """
    if isinstance(source, str | Path):
        path = Path(source)
        if not columns and (path / "interactions.parquet").exists() and not (path / MAPPING).is_file():
            return Log(load(path))
        return _read(path, columns)
    with tempfile.TemporaryDirectory(prefix="reelrank-log-") as folder:
        path = Path(folder) / "log.parquet"
        as_polars(source).write_parquet(path)
        return _read(path, columns)


def as_polars(frame: Any) -> pl.DataFrame:
    """Return a frame of Polars, pandas or Arrow as one of Polars."""
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    try:
        return pl.DataFrame(frame)
    except ImportError:  # pandas without pyarrow, which Polars converts with
        return pl.DataFrame({str(name): frame[name].tolist() for name in frame.columns})


@contextmanager
def written(log: Log) -> Iterator[Path]:
    """Yield a folder with the tables of a log, for what reads logs from folders."""
    tables = log.dataset.tables
    frames = {"interactions": tables.interactions, "users": tables.users, "videos": tables.videos}
    with tempfile.TemporaryDirectory(prefix="reelrank-log-") as folder:
        for name, frame in frames.items():
            frame.write_parquet(Path(folder) / f"{name}.parquet")
        (Path(folder) / "dataset.json").write_text(tables.info.model_dump_json())
        yield Path(folder)


def _read(path: Path, columns: Mapping[str, str] | None) -> Log:
    notes: list[str] = []
    own = OwnLog(changes=tuple(f"{ours}={theirs}" for ours, theirs in (columns or {}).items()))
    with tempfile.TemporaryDirectory(prefix="reelrank-log-") as folder:
        out = Path(folder) / "log"
        prepare("own", path, out, own=own, report=notes.append, progress=False)
        return Log(load(out), tuple(line for note in notes for line in note.splitlines()))
