"""Load the folder that `prepare` wrote; a folder that cannot be fitted on is one clear error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import polars as pl
from pydantic import ValidationError

from models.errors import BadInput
from models.signals import NO_SIGNALS, Signals
from models.video_features import VideoFeatures
from training.data._checks import (
    check_each_row,
    check_ids,
    check_interactions,
    check_joins,
    check_medians,
    refuse_first,
    row_rules,
)
from training.data._dataset import Dataset
from training.data._files import UNREADABLE, first_line, parts_of
from training.data._tables import (
    HISTORY,
    HISTORY_SCHEMA,
    INFO,
    INTERACTION_SCHEMA,
    INTERACTIONS,
    USERS,
    VIDEOS,
    Info,
    LogExtent,
    ProfileSchema,
    RowCounts,
    Tables,
    in_order,
    interaction_schema,
)

P = ParamSpec("P")
T = TypeVar("T")


def load(data: Path) -> Dataset:
    """Read a folder that `prepare` wrote, or your own log in the same layout.

    Only `interactions.parquet` is required. Without `history.parquet` nothing is known of the time before the
    log. Without `users.parquet` there are no profile features;
    without `dataset.json` numeric columns of `users.parquet` are numbers, text is a category, and days
    are counted in UTC.

    Raises:
        BadInput: a file is missing or cannot be read, a column is missing or of a wrong type, the log is
            empty, a value breaks its range or unit, or users or videos are those of another log.
    """
    dataset, faults = inspect(data)
    if dataset is None:
        raise BadInput(faults[0])
    return dataset


class Inspected(NamedTuple):
    """What a folder holds, and everything that is wrong with it."""

    dataset: Dataset | None
    """Only where nothing is wrong."""
    faults: tuple[str, ...]
    """One line each, the first of which `load` raises."""


def inspect(data: Path) -> Inspected:
    """Read a folder as `load` does, and find all of its faults instead of the first."""
    found = _Faults()
    if not (data / INTERACTIONS).exists():
        return Inspected(
            None,
            (
                f"{data} holds no {INTERACTIONS}; make it with "
                f"`python -m training prepare --dataset own --source FILE --out {data}`.",
            ),
        )
    declared = found.collect(_declared, data)
    signals = NO_SIGNALS if declared is None else declared.signals
    log = found.collect(_log, data / INTERACTIONS, signals, found)
    users = found.collect(_optional, data / USERS, "user_id")
    videos = found.collect(_optional, data / VIDEOS, "video_id")
    history = found.collect(_history, data / HISTORY) if (data / HISTORY).is_file() else None
    if log is None or users is None or videos is None:
        return Inspected(None, tuple(found.lines))
    if len(log) and "user_id" in log.columns:
        found.collect(check_joins, log.lazy(), users.lazy(), "user_id", USERS)
    if len(log) and "video_id" in log.columns:
        found.collect(check_joins, log.lazy(), videos.lazy(), "video_id", VIDEOS)
    if found.lines:
        return Inspected(None, tuple(found.lines))
    info = found.collect(_info, declared, data, log, users, videos)
    if info is not None:
        for name in info.profile.categories:
            if users[name].dtype == pl.String:
                found.collect(check_ids, users, name, USERS)
        found.lines.extend(_faults_of_features(info.video_features, videos))
        for name in info.profile.numbers:
            if not users[name].dtype.is_numeric() and users[name].dtype != pl.Boolean:
                found.lines.append(f"{USERS}: `{name}` must be a number, found {users[name].dtype}.")
    if info is None or found.lines:
        return Inspected(None, tuple(found.lines))
    return Inspected(Dataset(Tables(in_order(log, signals), users, videos, info, history)), ())


class _Faults:
    """Collects the lines of checks that refuse."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def collect(self, check: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """Return what a check returns, or nothing if it refuses."""
        try:
            return check(*args, **kwargs)
        except BadInput as e:
            self.lines.append(str(e))
            return None


def _log(path: Path, signals: Signals, found: _Faults) -> pl.DataFrame:
    """The columns of a log that have their types."""
    raw, schema = _read(path), interaction_schema(signals)
    columns = [found.collect(_typed, raw, {name: kind}, INTERACTIONS) for name, kind in schema.items()]
    log = pl.DataFrame(
        [table[name] for table, name in zip(columns, schema, strict=True) if table is not None]
    )
    if raw.is_empty():
        found.collect(check_interactions, raw, INTERACTIONS)
        return log
    rules = [rule for rule in row_rules(signals) if rule.column in log.columns]
    counts = log.select(rule.broken.sum().alias(str(n)) for n, rule in enumerate(rules)).row(0)
    for rule, count in zip(rules, counts, strict=True):
        if count:
            found.collect(refuse_first, log, rule.broken, INTERACTIONS, rule.column, rule.text)
    if {"watch_time_s", "duration_s"} <= set(log.columns) and not found.lines:
        found.collect(check_medians, log, INTERACTIONS)
    return log


class Scan(NamedTuple):
    """A log that is read batch by batch."""

    rows: int
    batches: Iterator[pl.DataFrame]
    """In the order of the file: the columns of `INTERACTION_SCHEMA` in its types, checked as `load` does."""


def scan_interactions(data: Path, batch_rows: int) -> Scan:
    """Open a log that need not fit into memory.

    Raises:
        BadInput: as `load`; the iterator raises it for the rows of its batch.
    """
    path = data / INTERACTIONS
    if not path.exists():
        raise BadInput(f"{data} holds no {INTERACTIONS}.")
    try:
        lazy = pl.scan_parquet(parts_of(path))
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
            file = f"{INTERACTIONS} after row {start:,}" if start else INTERACTIONS
            part = checked_rows(part, file)
            check_medians(part, file)
            yield part

    return Scan(rows, batches())


def checked_rows(rows: pl.DataFrame, file: str) -> pl.DataFrame:
    """Return rows of a log with the columns of `INTERACTION_SCHEMA` in its types, and their other columns.

    Raises:
        BadInput: as `load`; `file` is named.
    """
    rows = _typed(rows, INTERACTION_SCHEMA, file)
    check_each_row(rows, file)
    return rows


def profile_feature(data: Path, name: str) -> dict[str, str | float | int | bool]:
    """Return one profile feature by user; empty if the file or the column is missing.

    Raises:
        BadInput: the file cannot be read, or lists a user twice.
    """
    users = _optional(data / USERS, "user_id")
    if name not in users.columns:
        return {}
    known = users.select("user_id", name).drop_nulls()
    return dict(known.iter_rows())


def _declared(data: Path) -> Info | None:
    path = data / INFO
    if not path.is_file():
        return None
    try:
        return Info.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as e:
        raise BadInput(f"{path} cannot be read: {first_line(e)}; prepare the data again.") from e


def _info(
    info: Info | None, data: Path, log: pl.DataFrame, users: pl.DataFrame, videos: pl.DataFrame
) -> Info:
    if info is None:
        return _inferred(data, log, users, videos)
    features = (*info.profile.numbers, *info.profile.categories)
    if users.is_empty() and features:
        return info.model_copy(update={"profile": ProfileSchema()})
    missing = [name for name in features if name not in users.columns]
    if missing:
        raise BadInput(f"{USERS} lacks `{missing[0]}`, which {INFO} declares; prepare the data again.")
    return info


def _faults_of_features(features: VideoFeatures, videos: pl.DataFrame) -> Iterator[str]:
    for name in features.names:
        if name not in videos.columns:
            yield f"{VIDEOS} lacks `{name}`, which {INFO} declares; prepare the data again."
            continue
        dtype = videos[name].dtype
        inner = dtype.inner if isinstance(dtype, pl.List) else None
        if name in features.numbers and not dtype.is_numeric():
            yield f"{VIDEOS}: `{name}` must be a number, found {dtype}."
        elif name in features.categories and inner not in (pl.String, pl.Null):
            yield f"{VIDEOS}: `{name}` must be a list of texts, found {dtype}."
        elif name in features.embeddings and not (inner is not None and inner.is_numeric()):
            yield f"{VIDEOS}: `{name}` must be a list of numbers, found {dtype}."


def _inferred(data: Path, log: pl.DataFrame, users: pl.DataFrame, videos: pl.DataFrame) -> Info:
    """Describe a log that has no `dataset.json`."""
    features = [name for name in users.columns if name != "user_id"]
    numbers = tuple(name for name in features if users[name].dtype.is_numeric())
    extent = LogExtent.from_log(log.lazy(), 0.0)
    return Info(
        dataset=data.name,
        source=str(data),
        licence="unknown",
        citation="unknown",
        rows=RowCounts(read=len(log), kept=len(log)),
        **extent.model_copy(update={"videos": max(extent.videos, len(videos))}).as_info(),
        utc_offset_hours=0.0,
        main_tab=None,
        profile=ProfileSchema(
            numbers=numbers, categories=tuple(name for name in features if name not in numbers)
        ),
    )


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(parts_of(path))
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


def _history(path: Path) -> pl.DataFrame:
    history = _typed(_read(path), HISTORY_SCHEMA, HISTORY)
    for name in ("user_id", "video_id"):
        refuse_first(history, pl.col(name).is_null(), HISTORY, name, "is empty, and must not be")
        check_ids(history, name, HISTORY)
    bad = ~(pl.col("position") >= 1).fill_null(value=False)
    refuse_first(history, bad, HISTORY, "position", "must count from 1, the latest exposure before the log")
    twice = pl.struct("user_id", "position").is_duplicated()
    refuse_first(history, twice, HISTORY, "position", "is there twice for one user")
    return history


def _typed(table: pl.DataFrame, schema: dict[str, pl.DataType], file: str) -> pl.DataFrame:
    for name, kind in schema.items():
        if name not in table.columns:
            raise BadInput(f"{file} lacks the column `{name}`; it has {', '.join(table.columns)}.")
        dtype = table[name].dtype
        if not _casts(dtype, kind):
            raise BadInput(f"{file}: `{name}` must be {kind}, found {dtype}.")
        if kind == pl.Boolean and dtype != kind:
            refuse_first(table, ~pl.col(name).is_in([0, 1]), file, name, "must be 0 or 1")
    try:
        return table.with_columns(pl.col(name).cast(kind) for name, kind in schema.items())
    except pl.exceptions.PolarsError as e:
        raise BadInput(f"{file} has a value of a wrong type: {first_line(e)}.") from e


def _casts(dtype: pl.DataType, target: pl.DataType) -> bool:
    """Return whether the cast keeps the meaning: integer ids become decimal strings, flags may be 0 and 1."""
    if target == pl.String:
        return dtype == pl.String or dtype.is_integer() or dtype == pl.Null
    if target == pl.Boolean:
        return dtype == pl.Boolean or dtype.is_integer()
    if target == pl.Int64:
        return dtype.is_integer()
    return dtype.is_numeric()
