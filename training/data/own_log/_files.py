"""Open the files of a log of one's own as one table of text, whatever they are: CSV, NDJSON or Parquet."""

from __future__ import annotations

import csv
import glob
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Literal

import duckdb
from duckdb.sqltypes import DuckDBPyType

from models.errors import BadInput
from training.data._files import first_line
from training.data._tables import INFO
from training.data.own_log._mapping import MAPPING

_KINDS: Final = {
    **dict.fromkeys((".csv", ".tsv", ".txt"), "csv"),
    **dict.fromkeys((".ndjson", ".jsonl", ".json"), "json"),
    ".parquet": "parquet",
}
_COMPRESSED: Final = (".gz", ".zst")
_DELIMITERS: Final = ",;\t|"
_REJECTS: Final = "rejects_of_{table}"

Relation = duckdb.DuckDBPyRelation
Connection = duckdb.DuckDBPyConnection


@dataclass(frozen=True)
class TextTable:
    """Files with the same kind of rows, read lazily."""

    rows: Relation
    """Every column of every file, as text; null where the file has none, or says so."""
    files: tuple[Path, ...]
    columns_of: Mapping[Path, Collection[str]]
    """The columns of each file."""
    rejects: str | None
    """Table that will hold the lines which are no rows; `None` where every line is one."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(self.rows.columns)


def open_table(connection: Connection, name: str, source: Path, skip: Collection[Path] = ()) -> TextTable:
    """Open a file, a folder or a pattern of files.

    Args:
        connection: of DuckDB.
        name: of the table, for messages.
        source: what the caller gave.
        skip: files below `source` that are other tables.

    Raises:
        BadInput: there is no such file, files are of several kinds, or one cannot be read.
    """
    files = _files(name, source, skip)
    kinds = {_kind(path) for path in files}
    if len(kinds) > 1:
        suffixes = sorted({path.suffix for path in files})
        raise BadInput(
            f"{source} holds files of several kinds ({', '.join(suffixes)}); "
            f"give those of {name} with a pattern such as '{source}/*{suffixes[0]}'."
        )
    kind = kinds.pop()
    try:
        if kind == "csv":
            rejects = _REJECTS.format(table=name)
            headers = {path: _header(connection, path) for path in files}
            columns = {path: names for path, (_, *names) in headers.items()}
            return TextTable(_csv(connection, headers, rejects), files, columns, rejects)
        read = _json if kind == "json" else _parquet
        tables = {path: read(connection, path) for path in files}
        columns = {path: table.columns for path, table in tables.items()}
        return TextTable(_together(list(tables.values())), files, columns, None)
    except duckdb.Error as e:
        raise unreadable(source, e) from e


def unreadable(source: Path, error: duckdb.Error) -> BadInput:
    """Return the one line for an error of DuckDB on a damaged file, or on a full disk."""
    return BadInput(f"{source} cannot be read: {first_line(error)}.")


def first_row(rows: Relation) -> tuple[Any, ...] | None:
    """Return the first row, if there is any."""
    found = rows.limit(1).fetchall()
    return found[0] if found else None


def quoted(column: str) -> str:
    """Return a column's name as SQL writes it."""
    return '"' + column.replace('"', '""') + '"'


def _files(name: str, source: Path, skip: Collection[Path]) -> tuple[Path, ...]:
    if source.is_dir():
        below = ((path, path.relative_to(source).parts) for path in sorted(source.rglob("*")))
        found = [p for p, parts in below if p.is_file() and not any(s[0] in "._" for s in parts)]
    else:
        found = [source] if source.exists() else [Path(p) for p in sorted(glob.glob(str(source)))]
        if not found:
            raise BadInput(f"{source}: there is no such file or folder, to read {name} from.")
    others = {path.resolve() for path in skip}
    usable = [p for p in found if _kind(p) and p.name not in (MAPPING, INFO) and p.resolve() not in others]
    if not usable:
        raise BadInput(
            f"{source} holds no file to read {name} from; CSV, NDJSON and Parquet are read, "
            "the first two as .gz and .zst as well."
        )
    files = tuple(path for path in usable if path.stat().st_size)
    if not files:
        raise BadInput(f"{usable[0]} is empty; nothing can be learned from it.")
    return files


def _kind(path: Path) -> str | None:
    suffix = path.with_suffix("").suffix if path.suffix in _COMPRESSED else path.suffix
    return _KINDS.get(suffix.lower())


def _csv(connection: Connection, headers: Mapping[Path, tuple[str, ...]], rejects: str) -> Relation:
    tables = []
    for (delimiter, *names), group in groupby(headers.items(), key=itemgetter(1)):
        tables.append(
            connection.read_csv(
                [str(path) for path, _ in group],
                columns=dict.fromkeys(names, "VARCHAR"),
                delimiter=delimiter,
                quotechar='"',
                escapechar='"',
                header=True,
                auto_detect=False,
                store_rejects=True,
                rejects_table=rejects,
                rejects_scan=f"{rejects}_scans",
            )
        )
    return _together(tables)


def _header(connection: Connection, path: Path) -> tuple[str, ...]:
    """Return the delimiter and the names of the columns: the program's own detection takes a file for
    another one when a row is broken."""
    first = _first_line(connection, path)
    delimiter = max(_DELIMITERS, key=first.count)
    names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    if not any(names):
        raise BadInput(f"{path}: its first line is empty; it must name the columns.")
    if any(_is_number(name) for name in names):
        raise BadInput(
            f"{path} has no header: its first line is {first[:80]!r}; put the columns' names there."
        )
    names = [name or f"column_{number}" for number, name in enumerate(names, 1)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"{path} has two columns {twice!r}; rename one of them.")
    return (delimiter, *names)


def _first_line(connection: Connection, path: Path) -> str:
    try:
        lines = connection.read_csv(
            str(path), columns={"line": "VARCHAR"}, delimiter="\x01", quotechar="", escapechar="",
            header=False, auto_detect=False,
        )  # fmt: skip
        row = first_row(lines)
    except duckdb.InvalidInputException as e:
        raise BadInput(f"{path} is not text in UTF-8; save it as CSV in UTF-8.") from e
    return str(row[0] or "") if row else ""


def _is_number(name: str) -> bool:
    try:
        float(name)
    except ValueError:
        return False
    return True


def _json(connection: Connection, path: Path) -> Relation:
    form: Literal["array", "newline_delimited"] = "newline_delimited"
    if _first_line(connection, path).lstrip().startswith("["):
        form = "array"
    lenient = form == "newline_delimited"
    # Its own types would round whole numbers beyond 64 bits, so only the names are detected.
    names = connection.read_json(str(path), format=form, ignore_errors=lenient).columns
    columns = dict.fromkeys(names, "VARCHAR")
    return connection.read_json(str(path), columns=columns, format=form, ignore_errors=lenient)


def _parquet(connection: Connection, path: Path) -> Relation:
    return as_text(connection.read_parquet(str(path)))


def as_text(rows: Relation) -> Relation:
    """Return rows of Parquet or Arrow with every column as text."""
    return rows.project(", ".join(_text(n, t) for n, t in zip(rows.columns, rows.types, strict=True)))


def _text(name: str, kind: DuckDBPyType) -> str:
    column = quoted(name)
    if kind.id in ("list", "array"):
        text = f"CAST(to_json({column}) AS VARCHAR)"
    elif kind.id in ("float", "double"):
        most = 2**24 if kind.id == "float" else 2**53
        # Whole numbers from here on are not exact; written with an exponent they are refused as ids.
        text = f"CASE WHEN abs({column}) >= {most} THEN format('{{:e}}', {column}) ELSE {column}::VARCHAR END"
    else:
        text = f"CAST({column} AS VARCHAR)"
    return f"{text} AS {column}"


def _together(tables: Sequence[Relation]) -> Relation:
    """Union by name: a column that a file lacks is null there."""
    names = list(dict.fromkeys(name for table in tables for name in table.columns))

    def complete(table: Relation) -> Relation:
        known = set(table.columns)
        return table.project(
            ", ".join(quoted(n) if n in known else f"CAST(NULL AS VARCHAR) AS {quoted(n)}" for n in names)
        )

    return reduce(lambda ours, theirs: ours.union(theirs), map(complete, tables))
