"""Tables of a published data set, CSV or parquet, read so that a bad file ends in one clear line."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Final

import polars as pl

from models.errors import BadInput
from training.data._checks import refuse_first


class Kind(Enum):
    """What a column must hold."""

    ID = "an id"
    """Read as text: `12` in one file and `"12"` in another are the same id."""
    WHOLE = "a whole number"
    NUMBER = "a number"
    TEXT = "text"


_TYPES = {Kind.ID: pl.String, Kind.WHOLE: pl.Int64, Kind.NUMBER: pl.Float64, Kind.TEXT: pl.String}


UNREADABLE: Final = (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What polars raises on a damaged file. A few damages of parquet make its decoder panic, which is no
`Exception`, and which prints a trace of its own before our line."""


def find(folder: Path, pattern: str) -> list[Path]:
    """CSV and parquet files whose name without suffix matches, by name."""
    return sorted(p for p in folder.glob(f"{pattern}.*") if p.suffix in (".csv", ".parquet"))


def find_one(folder: Path, pattern: str) -> Path:
    """The one such file.

    Raises:
        BadInput: there is none, or more than one.
    """
    found = find(folder, pattern)
    if len(found) != 1:
        what = "no" if not found else "more than one"
        names = f" ({', '.join(p.name for p in found)})" if found else ""
        raise BadInput(
            f"{folder} holds {what} {pattern}.csv or .parquet{names}; "
            "give the folder of the unpacked archive."
        )
    return found[0]


def read_columns(path: Path, kinds: dict[str, Kind], optional: dict[str, Kind] | None = None) -> pl.DataFrame:
    """Read some columns, each cast to what it must hold. Missing values stay null.

    Args:
        path: a `.csv` or `.parquet` file.
        kinds: the columns that must be there, in the order they come out.
        optional: columns that follow if they are there.

    Raises:
        BadInput: the file cannot be read, a column is missing, or a value is not of its kind (the first
            such row is named; rows count from 1, header excluded).
    """
    scan, kinds = _scan(path, kinds, optional)
    try:
        raw = scan.collect()
    except UNREADABLE as e:
        raise _unreadable(path, e) from e
    return _typed(raw, kinds, path.name)


def read_batches(
    path: Path,
    kinds: dict[str, Kind],
    optional: dict[str, Kind] | None = None,
    *,
    batch_rows: int,
    scratch: Path,
) -> Iterator[tuple[str, pl.DataFrame]]:
    """`read_columns` of a file that need not fit into memory, some rows at a time, in its order.

    A CSV file has no places to begin in the middle, so its columns are first streamed to parquet, as text.

    Args:
        path, kinds, optional: as `read_columns`.
        batch_rows: rows in memory at once.
        scratch: a folder for the columns of a CSV file; what is put there is removed at the end.

    Yields:
        Where the rows are, for messages ("<file> after row <n>"), and the rows. Nothing of an empty file.

    Raises:
        BadInput: as `read_columns`; for rows further on, when they are reached.
    """
    scan, kinds = _scan(path, kinds, optional)
    columns = scratch / f"{path.stem}.columns.parquet"
    try:
        if path.suffix == ".csv":
            scan.sink_parquet(columns, row_group_size=batch_rows, compression="lz4", mkdir=True)
            scan = pl.scan_parquet(columns)
        rows = int(scan.select(pl.len()).collect().item())
        for start in range(0, rows, batch_rows):
            where = f"{path.name} after row {start:,}" if start else path.name
            yield where, _typed(scan.slice(start, batch_rows).collect(), kinds, where)
    except UNREADABLE as e:
        raise _unreadable(path, e) from e
    finally:
        columns.unlink(missing_ok=True)


def _scan(
    path: Path, kinds: dict[str, Kind], optional: dict[str, Kind] | None
) -> tuple[pl.LazyFrame, dict[str, Kind]]:
    """The columns asked for, as they are in the file, and what each must hold."""
    try:
        scan = pl.scan_csv(path, infer_schema=False) if path.suffix == ".csv" else pl.scan_parquet(path)
        names = scan.collect_schema().names()
    except UNREADABLE as e:
        raise _unreadable(path, e) from e
    for name in kinds:
        if name not in names:
            raise BadInput(f"{path.name} lacks the column `{name}`; it has {', '.join(names)}.")
    kinds = kinds | {name: kind for name, kind in (optional or {}).items() if name in names}
    return scan.select(list(kinds)), kinds


def _unreadable(path: Path, error: BaseException) -> BadInput:
    return BadInput(f"{path} is not a readable {path.suffix.removeprefix('.')} file: {first_line(error)}.")


def _typed(raw: pl.DataFrame, kinds: dict[str, Kind], where: str) -> pl.DataFrame:
    return pl.DataFrame([_cast(raw, name, kind, where) for name, kind in kinds.items()])


def _cast(raw: pl.DataFrame, name: str, kind: Kind, where: str) -> pl.Series:
    found, wanted = raw[name].dtype, _TYPES[kind]
    fits = {
        Kind.ID: found.is_integer() or found == pl.String,
        Kind.TEXT: not found.is_nested(),
        Kind.WHOLE: found.is_integer() or found in (pl.String, pl.Boolean),
        Kind.NUMBER: found.is_numeric() or found == pl.String,
    }
    if not (fits[kind] or found == pl.Null):
        raise BadInput(f"{where}: `{name}` must hold {kind.value}, found the type {found}.")
    cast = raw[name].cast(wanted, strict=False)
    lost = pl.lit(cast).is_null() & pl.col(name).is_not_null()
    refuse_first(raw, lost, where, name, f"is not {kind.value}")
    return cast


def first_line(error: BaseException) -> str:
    """The part of an error that fits into one line."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
