"""`python -m training prepare`: write a dataset as one folder of tables, whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import polars as pl
from pydantic import BaseModel, ConfigDict
from rich.console import Console

from models.errors import BadInput
from training.data._checks import check_interactions, check_joins
from training.data._forget import leave_out, read_ledgers
from training.data._tables import HISTORY, INFO, INTERACTIONS, USERS, VIDEOS, Info, Tables
from training.data.own_log import OwnLog, write_own_log
from training.data.readers import (
    read_kuairand_pure,
    read_kuairec,
    read_wechat,
    write_kuairand_1k,
    write_kuairand_27k,
    write_served,
)
from training.data.synthetic import read_synthetic
from training.staging import atomic_folder, refuse_existing

READERS: Final[Mapping[str, Callable[[Path | None, int], Tables]]] = {
    "kuairand-pure": read_kuairand_pure,
    "kuairec": read_kuairec,
    "wechat": read_wechat,
    "synthetic": read_synthetic,
}
"""Readers of datasets that fit into memory. One more dataset is one file and one line here."""

STREAMED: Final[Mapping[str, Callable[[Path | None, Path], Info]]] = {
    "kuairand-1k": write_kuairand_1k,
    "kuairand-27k": write_kuairand_27k,
}
"""Readers of datasets larger than memory: they check and write their own tables."""

OWN: Final = "own"
"""A log with columns of its own, of any size."""
SERVED: Final = "served"
"""What a service has logged."""
DATASETS: Final = (*READERS, *STREAMED, SERVED, OWN)


class Summary(BaseModel):
    """What `prepare` wrote. Its text is a one-line summary."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    out: Path
    info: Info
    files: tuple[str, ...]

    def __str__(self) -> str:
        rows = self.info.rows
        listed = self.info.dataset == OWN  # `report` has said them, with their rules
        dropped = ", ".join(f"{n:,} {reason}" for reason, n in rows.dropped.items() if n and not listed)
        return (
            f"{rows.kept:,} of {rows.read:,} rows{f' (dropped: {dropped})' if dropped else ''}, "
            f"{self.info.users:,} users, {self.info.videos:,} videos, "
            f"{self.info.days[0]} to {self.info.days[-1]}"
        )


def prepare(
    dataset: str,
    source: Path | None,
    out: Path,
    *,
    seed: int = 0,
    forget: Sequence[Path] = (),
    own: OwnLog | None = None,
    report: Callable[[str], None] = lambda line: None,
    progress: bool = True,
) -> Summary:
    """Read a dataset and write its tables.

    They are `interactions.parquet`, `users.parquet`, `videos.parquet`, `dataset.json`, and
    `history.parquet` if the source has one; of a log of one's own, `mapping.json` too. Timestamps become
    Unix milliseconds, durations seconds, ids strings. The folder is written under another name and renamed
    at the end, so that an interrupted run leaves nothing behind.

    Args:
        dataset: a name in `DATASETS`.
        source: the files of the dataset; for `synthetic`, none or a JSON file with a `SyntheticConfig`.
        out: a new folder, or an empty one.
        seed: of the synthetic log.
        forget: unlearning ledgers; what they name is left out of every table.
        own: for `own`, further tables and what is known of the columns; for `served`, the mapping and tables
            of the log that its bundle was fitted on.
        report: for `own`, is called with its columns and what was dropped, as lines for people.
        progress: show the current step on standard error.

    Raises:
        BadInput: an unknown dataset, an `out` with something in it, a missing or unreadable file, a
            missing column, a value of a wrong type, range or unit, an empty log, a user's clock that runs
            backwards, users or videos of another log, or a ledger that cannot be read.
    """
    if dataset not in DATASETS:
        raise BadInput(f"unknown dataset {dataset!r}; choose one of {', '.join(DATASETS)}.")
    own = own or OwnLog()
    allowed = OwnLog(own.videos, own.users, own.mapping) if dataset == SERVED else OwnLog()
    if dataset != OWN and own != allowed:
        raise BadInput(
            f"{dataset} has columns of its own; a mapping and further tables are for --dataset own."
        )
    refuse_existing(out)
    forgotten = read_ledgers(forget)
    console = Console(stderr=True, quiet=not progress)
    with console.status(f"reading {dataset}") as status, atomic_folder(out) as folder:
        if dataset == OWN:
            info = write_own_log(source, folder, own, report).info
        elif dataset == SERVED:
            info = write_served(source, folder, own)
        elif dataset in STREAMED:
            info = STREAMED[dataset](source, folder)
        else:
            tables = READERS[dataset](source, seed)
            status.update("checking")
            check_interactions(tables.interactions, dataset)
            status.update(f"writing {len(tables.interactions):,} rows")
            write_tables(tables, folder)
            info = tables.info
        log = pl.scan_parquet(folder / INTERACTIONS)
        for name, key in ((USERS, "user_id"), (VIDEOS, "video_id")):
            check_joins(log, pl.scan_parquet(folder / name), key, f"{dataset}: the table for {name}")
        if forgotten.entries:
            status.update("leaving out what the ledgers name")
            info = leave_out(folder, info, forgotten)
        (folder / INFO).write_text(info.model_dump_json(indent=2) + "\n")
        files = tuple(sorted(path.name for path in folder.iterdir()))
    return Summary(out=out, info=info, files=files)


def write_tables(tables: Tables, folder: Path) -> None:
    """Write the tables of a dataset folder, each into its file."""
    tables.interactions.write_parquet(folder / INTERACTIONS)
    tables.users.write_parquet(folder / USERS)
    tables.videos.write_parquet(folder / VIDEOS)
    if tables.history is not None:
        tables.history.write_parquet(folder / HISTORY)
