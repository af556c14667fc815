"""Leave out users who asked to be forgotten, before anything is learned from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from models import ledger
from models.errors import BadInput
from training.data._tables import HISTORY, INTERACTIONS, USERS, CensoredHistory, Info, LogExtent


class Forgotten(NamedTuple):
    """What unlearning ledgers say."""

    users: frozenset[str]
    """That any of them names."""
    until_ms: int | None
    """The newest line of the ledger whose newest line is the oldest: up to then all of them are known.
    `None` without a line."""


def read_ledgers(ledgers: Sequence[Path]) -> Forgotten:
    """Return whom ledgers name, and up to when.

    Raises:
        BadInput: a ledger cannot be read, or a line of it is no entry.
    """
    read = [entries for path in ledgers if (entries := ledger.read(path))]
    newest = [max(entry.forgotten_at_ms for entry in entries) for entries in read]
    users = frozenset(entry.user_id for entries in read for entry in entries)
    return Forgotten(users, min(newest, default=None))


def leave_out(folder: Path, info: Info, forgotten: Forgotten) -> Info:
    """Remove the rows of users from the tables in a folder, and return the updated `dataset.json`.

    All of their rows go, those after the request too: a user who comes back stays out until the line is
    removed from the ledger. The tables are streamed, so they need not fit into memory.

    Raises:
        BadInput: no user is left.
    """
    ids = pl.LazyFrame({"user_id": sorted(forgotten.users)}, schema={"user_id": pl.String()})
    history = folder / HISTORY
    for path in (folder / INTERACTIONS, folder / USERS, history):
        if path.exists():
            remaining = path.with_suffix(".remaining")
            rows = pl.scan_parquet(path).join(ids, on="user_id", how="anti", maintain_order="left")
            rows.sink_parquet(remaining, maintain_order=True)
            remaining.replace(path)
    log = pl.scan_parquet(folder / INTERACTIONS)
    if log.head(1).collect().is_empty():
        raise BadInput(f"The ledgers name all {info.users:,} users of this log; nothing is left.")
    extent = LogExtent.from_log(log, info.utc_offset_hours)
    dropped = info.rows.dropped | {"forgotten": info.rows.kept - extent.rows}
    return info.model_copy(
        update={
            **extent.as_info(),
            "forgotten_until_ms": forgotten.until_ms,
            "rows": info.rows.model_copy(update={"kept": extent.rows, "dropped": dropped}),
            "history": CensoredHistory.from_table(pl.read_parquet(history)) if history.exists() else None,
        }
    )
