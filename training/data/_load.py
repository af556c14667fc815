"""A `DATA` folder -> `Dataset`, refused with one clear line when it cannot be trained on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl
from pydantic import ValidationError

from models.errors import BadInput
from training.data._checks import check_interactions, refuse_first
from training.data._dataset import Dataset
from training.data._source import UNREADABLE, first_line
from training.data._tables import (
    HISTORY,
    INFO,
    INTERACTION_SCHEMA,
    INTERACTIONS,
    USERS,
    VIDEOS,
    Info,
    ProfileSchema,
    RowCounts,
    Tables,
    in_order,
    local_days,
)


def load(data: Path) -> Dataset:
    """Read what `prepare` wrote, or one's own log in the same layout.

    Only `interactions.parquet` is required. Without `users.parquet` there are no profile features;
    without `dataset.json` numeric columns of `users.parquet` are numbers, text is a category, and days
    are counted in UTC.

    Raises:
        BadInput: a file is missing or cannot be read, a column is missing or of a wrong type, the log
            is empty, or a value breaks its range or unit.
    """
    if not (data / INTERACTIONS).is_file():
        raise BadInput(
            f"{data} holds no {INTERACTIONS}; make it with "
            f"`python -m training prepare --dataset kuairand-pure --source DIR --out {data}`."
        )
    log = _typed(_read(data / INTERACTIONS), INTERACTION_SCHEMA, INTERACTIONS)
    check_interactions(log, INTERACTIONS)
    users = _optional(data / USERS, "user_id")
    videos = _optional(data / VIDEOS, "video_id")
    history = _read(data / HISTORY) if (data / HISTORY).is_file() else None
    info = _info(data, log, users, videos)
    for name in info.profile.numbers:
        if not users[name].dtype.is_numeric() and users[name].dtype != pl.Boolean:
            raise BadInput(f"{USERS}: `{name}` must be a number, found {users[name].dtype}.")
    return Dataset(Tables(in_order(log), users, videos, info, history))


class Scan(NamedTuple):
    """A log that is read a batch at a time."""

    rows: int
    batches: Iterator[pl.DataFrame]
    """In the order of the file: the columns of `INTERACTION_SCHEMA` in its types, checked as `load` does."""


def scan_interactions(data: Path, batch_rows: int) -> Scan:
    """Read a log that need not fit into memory.

    Raises:
        BadInput: as `load`; from the iterator, for rows further on.
    """
    path = data / INTERACTIONS
    if not path.is_file():
        raise BadInput(f"{data} holds no {INTERACTIONS}.")
    try:
        lazy = pl.scan_parquet(path)
        rows = int(lazy.select(pl.len()).collect().item())
    except UNREADABLE as e:
        raise BadInput(f"{path} is not a readable parquet file: {first_line(e)}.") from e
    if not rows:
        raise BadInput(f"{INTERACTIONS} has no rows; there is nothing to do.")

    def batches() -> Iterator[pl.DataFrame]:
        for start in range(0, rows, batch_rows):
            try:
                part = lazy.slice(start, batch_rows).collect()
            except UNREADABLE as e:
                raise BadInput(f"{path} is damaged after row {start:,}: {first_line(e)}.") from e
            where = f"{INTERACTIONS} after row {start:,}" if start else INTERACTIONS
            part = _typed(part, INTERACTION_SCHEMA, where)
            check_interactions(part, where)
            yield part

    return Scan(rows, batches())


def profile_feature(data: Path, name: str) -> dict[str, str | float | int | bool]:
    """One profile feature of every user of `users.parquet` that has it; empty without the file or column.

    Raises:
        BadInput: the file cannot be read, or lists a user twice.
    """
    users = _optional(data / USERS, "user_id")
    if name not in users.columns:
        return {}
    known = users.select("user_id", name).drop_nulls()
    return dict(known.iter_rows())


def _info(data: Path, log: pl.DataFrame, users: pl.DataFrame, videos: pl.DataFrame) -> Info:
    path = data / INFO
    if not path.is_file():
        return _inferred(data, log, users, videos)
    try:
        info = Info.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as e:
        raise BadInput(f"{path} cannot be read: {first_line(e)}; prepare the data again.") from e
    declared = (*info.profile.numbers, *info.profile.categories)
    if users.is_empty() and declared:
        return info.model_copy(update={"profile": ProfileSchema()})
    missing = [name for name in declared if name not in users.columns]
    if missing:
        raise BadInput(f"{USERS} lacks `{missing[0]}`, which {INFO} declares; prepare the data again.")
    return info


def _inferred(data: Path, log: pl.DataFrame, users: pl.DataFrame, videos: pl.DataFrame) -> Info:
    """The note of a log that somebody laid out by hand."""
    features = [name for name in users.columns if name != "user_id"]
    numbers = tuple(name for name in features if users[name].dtype.is_numeric())
    return Info(
        dataset=data.name,
        source=str(data),
        licence="unknown",
        citation="unknown",
        rows=RowCounts(read=len(log), kept=len(log)),
        users=log["user_id"].n_unique(),
        videos=max(log["video_id"].n_unique(), len(videos)),
        first_timestamp_ms=int(log["timestamp_ms"].to_numpy().min()),
        last_timestamp_ms=int(log["timestamp_ms"].to_numpy().max()),
        utc_offset_hours=0.0,
        days=local_days(log["timestamp_ms"], 0.0),
        main_tab=None,
        profile=ProfileSchema(
            numbers=numbers, categories=tuple(name for name in features if name not in numbers)
        ),
    )


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except UNREADABLE as e:
        raise BadInput(f"{path} is not a readable parquet file: {first_line(e)}.") from e


def _optional(path: Path, key: str) -> pl.DataFrame:
    if not path.is_file():
        return pl.DataFrame(schema={key: pl.String})
    table = _read(path)
    table = table.with_columns(_typed(table, {key: pl.String()}, path.name)[key])
    if table[key].is_duplicated().any():
        first = table[key].filter(table[key].is_duplicated())[0]
        raise BadInput(f"{path.name} lists `{key}` {first!r} twice; keep one row for each.")
    return table


def _typed(table: pl.DataFrame, schema: dict[str, pl.DataType], where: str) -> pl.DataFrame:
    for name, kind in schema.items():
        if name not in table.columns:
            raise BadInput(f"{where} lacks the column `{name}`; it has {', '.join(table.columns)}.")
        found = table[name].dtype
        if not _casts(found, kind):
            raise BadInput(f"{where}: `{name}` must be {kind}, found {found}.")
        if kind == pl.Boolean and found != kind:
            refuse_first(table, ~pl.col(name).is_in([0, 1]), where, name, "must be 0 or 1")
    try:
        return table.with_columns(pl.col(name).cast(kind) for name, kind in schema.items())
    except pl.exceptions.PolarsError as e:
        raise BadInput(f"{where} has a value of a wrong type: {first_line(e)}.") from e


def _casts(found: pl.DataType, wanted: pl.DataType) -> bool:
    """Whether the cast keeps the meaning: integer ids are their decimal strings, flags may be 0 and 1."""
    if wanted == pl.String:
        return found == pl.String or found.is_integer() or found == pl.Null
    if wanted == pl.Boolean:
        return found == pl.Boolean or found.is_integer()
    if wanted == pl.Int64:
        return found.is_integer()
    return found.is_numeric()
