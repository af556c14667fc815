"""Read CSV and parquet tables of published datasets; a bad file ends in one clear line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Final

import polars as pl

from models.errors import BadInput
from training.data._checks import refuse_first


class Kind(Enum):
    """Content of a column."""

    ID = "an id"
    """Read as text: `12`, `"12"` and a spreadsheet's `12.0` are the same id."""
    WHOLE = "a whole number"
    NUMBER = "a number"
    MOMENT = "a number in full digits"
    """A time; `1.59388E+09` is refused, since a spreadsheet has dropped its last digits."""
    TEXT = "text"


_TYPES = {
    Kind.ID: pl.String,
    Kind.WHOLE: pl.Int64,
    Kind.NUMBER: pl.Float64,
    Kind.MOMENT: pl.Float64,
    Kind.TEXT: pl.String,
}

_ROUNDED = r"^-?[0-9.]+[eE][+-][0-9]+$"
"""A long whole number as a spreadsheet writes it."""


UNREADABLE: Final = (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""Errors of polars on a damaged file. Some damaged parquet files make its decoder panic, which is not an
`Exception` and prints a trace of its own."""


def find(folder: Path, pattern: str) -> list[Path]:
    """Return the CSV and parquet files whose stem matches a pattern, sorted by name."""
    return sorted(p for p in folder.glob(f"{pattern}.*") if p.suffix in (".csv", ".parquet"))


def release_folder(
    dataset: str, source: Path | None, inside: Sequence[str], patterns: Sequence[str], home: str
) -> Path:
    """Return the folder that holds the log of a published release.

    Args:
        dataset: its name, for messages.
        source: what the caller gave: the folder of the files, or of the unpacked archive.
        inside: where else to look below `source`.
        patterns: names of the log's files without suffix; one of them must be there.
        home: where the dataset is published.

    Raises:
        BadInput: no source, or no such file in it.
    """
    if source is None:
        raise BadInput(f"{dataset} is read from a folder; give it with --source DIR.")
    for folder in (source, *(source / name for name in inside)):
        if any(find(folder, pattern) for pattern in patterns):
            return folder
    problem = "holds no" if source.is_dir() else "is not a folder with"
    raise BadInput(
        f"{source} {problem} {' or '.join(patterns)} as .csv or .parquet, nor does its data/; "
        f"get the data from {home} and give the folder of the unpacked archive."
    )


def find_one(folder: Path, pattern: str) -> Path:
    """Return the one file that `find` finds.

    Raises:
        BadInput: there is none, or more than one.
    """
    files = find(folder, pattern)
    if len(files) != 1:
        count = "more than one" if files else "no"
        names = f" ({', '.join(path.name for path in files)})" if files else ""
        raise BadInput(
            f"{folder} holds {count} {pattern}.csv or .parquet{names}; "
            "give the folder of the unpacked archive."
        )
    return files[0]


def read_columns(path: Path, kinds: dict[str, Kind], optional: dict[str, Kind] | None = None) -> pl.DataFrame:
    """Read some columns, each cast to what it must hold. Missing values stay null.

    Args:
        path: a `.csv` or `.parquet` file.
        kinds: required columns, in the order of the result.
        optional: further columns, read if the file has them.

    Raises:
        BadInput: the file cannot be read, a column is missing, or a value is not of its kind (the first
            such row is named; rows count from 1, header excluded).
    """
    scan, kinds = _scan(path, kinds, optional)
    try:
        raw = scan.collect()
    except UNREADABLE as e:
        raise _unreadable(path, e) from e
    return typed(raw, kinds, path.name)


def read_batches(
    path: Path,
    kinds: dict[str, Kind],
    optional: dict[str, Kind] | None = None,
    *,
    batch_rows: int,
    scratch: Path,
) -> Iterator[tuple[str, pl.DataFrame]]:
    """Read columns as `read_columns`, batch by batch, of a file that need not fit into memory.

    A CSV file cannot be read from the middle, so its columns are first streamed to parquet, as text.

    Args:
        path, kinds, optional: as `read_columns`.
        batch_rows: rows per batch.
        scratch: a folder for temporary files, removed at the end.

    Yields:
        The position of a batch for messages ("<file> after row <n>") and its rows, in the order of the file.

    Raises:
        BadInput: as `read_columns`, when the batch is reached.
    """
    scan, kinds = _scan(path, kinds, optional)
    columns = scratch / f"{path.stem}.columns.parquet"
    try:
        if path.suffix == ".csv":
            scan.sink_parquet(columns, row_group_size=batch_rows, compression="lz4", mkdir=True)
            scan = pl.scan_parquet(columns)
        rows = int(scan.select(pl.len()).collect().item())
        for start in range(0, rows, batch_rows):
            file = f"{path.name} after row {start:,}" if start else path.name
            yield file, typed(scan.slice(start, batch_rows).collect(), kinds, file)
    except UNREADABLE as e:
        raise _unreadable(path, e) from e
    finally:
        columns.unlink(missing_ok=True)


def _scan(
    path: Path, kinds: dict[str, Kind], optional: dict[str, Kind] | None
) -> tuple[pl.LazyFrame, dict[str, Kind]]:
    """Return the requested columns as they are in the file, and the kind of each."""
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


def typed(raw: pl.DataFrame, kinds: dict[str, Kind], file: str) -> pl.DataFrame:
    """Return some columns, each cast to what it must hold; see `read_columns`."""
    return pl.DataFrame([_cast(raw, name, kind, file) for name, kind in kinds.items()])


def _cast(raw: pl.DataFrame, name: str, kind: Kind, file: str) -> pl.Series:
    found, wanted = raw[name].dtype, _TYPES[kind]
    fits = {
        Kind.ID: found.is_numeric() or found == pl.String,
        Kind.TEXT: not found.is_nested(),
        Kind.WHOLE: found.is_integer() or found in (pl.String, pl.Boolean),
        Kind.NUMBER: found.is_numeric() or found == pl.String,
        Kind.MOMENT: found.is_integer() or found in (pl.String, pl.Float64),
    }
    if not (fits[kind] or found == pl.Null):
        raise BadInput(f"{file}: `{name}` must hold {kind.value}, found the type {found}.")
    if kind in (Kind.ID, Kind.MOMENT) and found == pl.String:
        rounded = pl.col(name).str.contains(_ROUNDED)
        refuse_first(raw, rounded, file, name, "has lost digits in a spreadsheet; save the column as text")
    if kind is Kind.ID:
        return raw.select(_id(raw, name, file))[name]
    cast = raw[name].cast(wanted, strict=False)
    lost = pl.lit(cast).is_null() & pl.col(name).is_not_null()
    refuse_first(raw, lost, file, name, f"is not {kind.value}")
    return cast


def _id(raw: pl.DataFrame, name: str, file: str) -> pl.Expr:
    """The ids of a column. Numbers of a floating-point column, where missing ones are NaN, are ids while they
    are whole and exact."""
    column = pl.col(name)
    if not raw[name].dtype.is_float():
        return without_decimals(column.cast(pl.String))
    ids, most = column.fill_nan(None), 2**24 if raw[name].dtype == pl.Float32 else 2**53
    refuse_first(raw, (ids.round() != ids) | (ids.abs() >= most), file, name, "is no exact whole number")
    return ids.cast(pl.Int64).cast(pl.String)


def without_decimals(ids: pl.Expr) -> pl.Expr:
    """Return ids without the decimals that a spreadsheet has given them, as text and so of any length: `12.0`
    is `12`. An empty id is a missing one."""
    return ids.str.replace(r"^(-?[0-9]+)\.0*$", "$1").replace("", None)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without the full stop."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


def parts_of(path: Path) -> Path:
    """Return what polars reads of a Parquet file, or of a folder of them, one a day, that Spark has written:
    in order."""
    return path / "*" / "*.parquet" if path.is_dir() else path
