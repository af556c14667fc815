"""Leaving out users who asked to be forgotten, before anything is learned from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from models import ledger
from models.errors import BadInput
from training.data._split import DAY_MS
from training.data._tables import HISTORY, INTERACTIONS, USERS, CensoredHistory, Info, local_days


def forgotten_users(ledgers: Sequence[Path]) -> frozenset[str]:
    """Everybody whom any of the ledgers names.

    Raises:
        BadInput: a ledger cannot be read, or a line of it is no entry.
    """
    return frozenset(entry.user_id for path in ledgers for entry in ledger.read(path))


def leave_out(folder: Path, info: Info, users: frozenset[str]) -> Info:
    """Take the users' rows out of the tables in `folder`, in a stream; returns what the note says then.

    All of their rows go, those after the request too: who comes back stays out until their line is taken
    from the ledger.

    Raises:
        BadInput: nobody is left.
    """
    ids = pl.LazyFrame({"user_id": sorted(users)}, schema={"user_id": pl.String()})
    history = folder / HISTORY
    for path in (folder / INTERACTIONS, folder / USERS, history):
        if path.exists():
            left = path.with_suffix(".left")
            rest = pl.scan_parquet(path).join(ids, on="user_id", how="anti", maintain_order="left")
            rest.sink_parquet(left, maintain_order=True)
            left.replace(path)
    log = pl.scan_parquet(folder / INTERACTIONS)
    kept, *counts = (
        log.select(
            pl.len(),
            users=pl.col("user_id").n_unique(),
            videos=pl.col("video_id").n_unique(),
            first=pl.col("timestamp_ms").min(),
            last=pl.col("timestamp_ms").max(),
        )
        .collect(engine="streaming")
        .row(0)
    )
    if not kept:
        raise BadInput(f"The ledgers name all {info.users:,} users of this log; nothing is left.")
    dropped = info.rows.dropped | {"forgotten": info.rows.kept - kept}
    names = ("users", "videos", "first_timestamp_ms", "last_timestamp_ms")
    return info.model_copy(
        update={
            "rows": info.rows.model_copy(update={"kept": kept, "dropped": dropped}),
            **dict(zip(names, counts, strict=True)),
            "days": local_days(_midnights(log, info.utc_offset_hours), info.utc_offset_hours),
            "history": CensoredHistory.of(pl.read_parquet(history)) if history.exists() else None,
        }
    )


def _midnights(log: pl.LazyFrame, utc_offset_hours: float) -> pl.Series:
    """A time of each local day with rows: the log itself may be larger than memory."""
    offset_ms = round(utc_offset_hours * 3_600_000)
    day = (pl.col("timestamp_ms") + offset_ms) // DAY_MS * DAY_MS - offset_ms
    return log.select(day.unique()).collect(engine="streaming").to_series()
