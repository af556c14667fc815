"""Leave out what unlearning ledgers name, before anything is learned from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import polars as pl

from models import ledger
from models.errors import BadInput
from training.data._dataset import Dataset
from training.data._tables import (
    HISTORY,
    INTERACTION_SCHEMA,
    INTERACTIONS,
    USERS,
    VIDEOS,
    CensoredHistory,
    Info,
    LogExtent,
)


class Forgotten(NamedTuple):
    """What unlearning ledgers say."""

    entries: tuple[ledger.Entry, ...]
    """Of all of them, in the order of the files."""
    until_ms: int | None
    """The newest line of the ledger whose newest line is the oldest: up to then all of them are known.
    `None` without a line."""

    def remaining(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Return the rows of a table that no entry names, in their order.

        An entry names rows of tables that have all of its columns: that of a user no row of a table of
        videos, that of one exposure no row of a table of users.
        """
        known = set(rows.collect_schema().names())
        by_columns: dict[tuple[str, ...], set[tuple[str | int, ...]]] = {}
        for entry in self.entries:
            by_columns.setdefault(tuple(entry.ids), set()).add(tuple(entry.ids.values()))
        for columns, values in sorted(by_columns.items()):
            if known >= set(columns):
                schema = {name: INTERACTION_SCHEMA[name] for name in columns}
                named = pl.LazyFrame(sorted(values), schema=schema, orient="row")
                rows = rows.join(named, on=columns, how="anti", maintain_order="left")
        return rows

    def remaining_history(self, history: pl.LazyFrame, videos: pl.LazyFrame) -> pl.LazyFrame:
        """Return the same of exposures before the log, whose authors only the table of videos knows."""
        columns = history.collect_schema().names()
        if "author_id" in videos.collect_schema().names():
            authors = videos.select("video_id", "author_id")
            history = history.join(authors, on="video_id", how="left", maintain_order="left")
        return self.remaining(history).select(columns)


def read_ledgers(ledgers: Iterable[Path]) -> Forgotten:
    """Return what ledgers name, and up to when.

    Raises:
        BadInput: a ledger cannot be read, or a line of it is no entry.
    """
    read = [entries for path in ledgers if (entries := ledger.read(path))]
    newest = [max(entry.forgotten_at_ms for entry in entries) for entries in read]
    return Forgotten(tuple(entry for entries in read for entry in entries), min(newest, default=None))


def leave_out(folder: Path, info: Info, forgotten: Forgotten) -> Info:
    """Remove the rows that ledgers name from the tables in a folder, and return the updated `dataset.json`.

    All rows of a user go, those after the request too: a user who comes back stays out until the line is
    removed from the ledger. The tables are streamed, so they need not fit into memory.

    Raises:
        BadInput: no row is left.
    """
    history, videos = folder / HISTORY, pl.scan_parquet(folder / VIDEOS)
    tables = {
        path: pl.scan_parquet(path) for name in (INTERACTIONS, USERS) if (path := folder / name).exists()
    }
    left = {path: forgotten.remaining(rows) for path, rows in tables.items()}
    if history.exists():
        left[history] = forgotten.remaining_history(pl.scan_parquet(history), videos)
    left[folder / VIDEOS] = forgotten.remaining(videos)  # last: the history is joined with it
    for path, rows in left.items():
        remaining = path.with_suffix(".remaining")
        rows.sink_parquet(remaining, maintain_order=True)
        remaining.replace(path)
    return _left(
        info,
        pl.scan_parquet(folder / INTERACTIONS),
        pl.read_parquet(history) if history.exists() else None,
        forgotten,
    )


def without(dataset: Dataset, forgotten: Forgotten) -> Dataset:
    """Return a data set without the rows that ledgers name; see `leave_out`.

    Raises:
        BadInput: no row is left.
    """
    tables = dataset.tables
    log, users, videos = (
        forgotten.remaining(rows.lazy()).collect()
        for rows in (tables.interactions, tables.users, tables.videos)
    )
    history = tables.history
    if history is not None:
        history = forgotten.remaining_history(history.lazy(), tables.videos.lazy()).collect()
    info = _left(tables.info, log.lazy(), history, forgotten)
    return Dataset(replace(tables, interactions=log, users=users, videos=videos, history=history, info=info))


def _left(info: Info, log: pl.LazyFrame, history: pl.DataFrame | None, forgotten: Forgotten) -> Info:
    if log.head(1).collect().is_empty():
        raise BadInput(
            f"The ledgers name everything of the {info.users:,} users of this log; nothing is left."
        )
    extent = LogExtent.from_log(log, info.utc_offset_hours)
    dropped = info.rows.dropped | {
        "forgotten": info.rows.dropped.get("forgotten", 0) + info.rows.kept - extent.rows
    }
    moments = [at for at in (info.forgotten_until_ms, forgotten.until_ms) if at is not None]
    return info.model_copy(
        update={
            **extent.as_info(),
            "forgotten_until_ms": max(moments, default=None),
            "rows": info.rows.model_copy(update={"kept": extent.rows, "dropped": dropped}),
            "history": None if history is None else CensoredHistory.from_table(history),
        }
    )
