"""The served log: what a service with `REELRANK_LOG_DIR` accepted as feedback.

One exposure has a line for each version and repetition of its event. They become one row by the service's
rule (`models/event_schema.md`), so a log that was written by several workers, some of which were killed, is
read to what was sent. Profiles, histories and features of videos are not in the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Final

import polars as pl
from duckdb import DuckDBPyRelation

from models.errors import BadInput
from models.schema import FLAGS
from models.served_log import LoggedEvent, decoded_lines, log_files
from models.signals import Signals
from training.data._load import scan_interactions
from training.data._tables import (
    INTERACTION_SCHEMA,
    INTERACTIONS,
    NULLABLE,
    Info,
    LogExtent,
    RowCounts,
    interaction_schema,
)
from training.data.own_log import (
    NAMES_OF_SIGNALS,
    ColumnMapping,
    OwnLog,
    database,
    write_users_and_videos,
)

BATCH_LINES: Final = 500_000
"""Lines that are objects at a time, some 500 MB."""

EXPOSURE: Final = ("event_id", "user_id", "video_id")
"""What names an exposure: an `event_id` may be used again by others after the idempotency window."""

_SCHEMA: Final = {
    "event_id": pl.String(),
    **INTERACTION_SCHEMA,
    "request_id": pl.String(),
    "position": pl.Int64(),
    "given_at_ms": pl.Int64(),
    "lines": pl.Int64(),
}
_FLAG, _AMOUNT = "flag.", "amount."
"""Prefixes of the columns of own signals."""
_values: Final = attrgetter("event_id", *INTERACTION_SCHEMA, "request_id", "position")


def write_served(source: Path | None, out: Path, own: OwnLog) -> Info:
    """Read the events of a served log, which need not fit into memory, and write the tables of a dataset.

    Args:
        source: the folder that was given to the service as `REELRANK_LOG_DIR`. The service may run.
        out: an existing folder with room for twice the log while it is written.
        own: the mapping of the log that the service's bundle was fitted on, which says which own signals are
            negative, and its tables of users and videos. A yes or no that is not in the mapping counts as
            positive, unless its name is that of a usual negative one.

    Raises:
        BadInput: as `training.data.prepare`, or a line that is none.
    """
    if source is None:
        raise BadInput(
            "served is read from a folder, REELRANK_LOG_DIR of the service; give it with --source."
        )
    if (own.videos or own.users) and not own.mapping:
        raise BadInput(
            "what the columns of --videos and --users are is read from the mapping.json of the log that the "
            "service's bundle was fitted on; give it with --mapping."
        )
    mapping = ColumnMapping.read(own.mapping) if own.mapping else ColumnMapping()
    lines = 0
    with database(source, out) as (connection, work):
        for number, batch in enumerate(_batches(_events(source))):
            lines += len(batch)
            _merged(batch).write_parquet(work / f"{number}.parquet")
        if not lines:
            raise BadInput(
                f"{source} holds no event yet; was REELRANK_LOG_DIR set when the service took them?"
            )
        versions = connection.read_parquet(str(work / "*.parquet"), union_by_name=True)
        signals = _signals(versions.columns, mapping.signals())
        _merged_versions(versions, signals).write_parquet(str(out / INTERACTIONS))
        for _ in scan_interactions(out, BATCH_LINES).batches:  # which checks them
            pass
        profile, features = write_users_and_videos(connection, own, mapping, out)
    extent = LogExtent.from_log(pl.scan_parquet(out / INTERACTIONS), 0.0)
    return Info(
        dataset="served",
        source="events that a service of one's own has accepted",
        licence="one's own",
        citation="",
        rows=RowCounts(read=lines, kept=extent.rows, dropped={"merged_or_repeated": lines - extent.rows}),
        **extent.as_info(),
        utc_offset_hours=0.0,
        main_tab=None,
        profile=profile,
        signals=signals,
        video_features=features,
        notes=("Profiles and histories that the service was given are not in its log.",),
    )


def _merged_versions(versions: DuckDBPyRelation, signals: Signals) -> DuckDBPyRelation:
    """Merge versions of exposures, and put these in order, oldest first; rows of one time have one order."""
    largest = [f'max("{name}") AS "{name}"' for name in INTERACTION_SCHEMA if name not in EXPOSURE]
    for kind, own in ((_FLAG, signals.flags), (_AMOUNT, signals.numbers)):
        for name in own:
            given = f'coalesce(max("{kind}{name}"), 0)' if kind + name in versions.columns else "0.0"
            largest.append(f'{given}{" > 0" if kind == _FLAG else ""} AS "{name}"')
    exposures = versions.aggregate(", ".join((*EXPOSURE, *largest)), ", ".join(EXPOSURE))
    ordered = exposures.order("timestamp_ms, user_id, video_id, event_id")
    return ordered.project(", ".join(f'"{name}"' for name in interaction_schema(signals)))


def served_exposures(folder: Path) -> pl.DataFrame:
    """Return the exposures of a served log, in any order.

    Returns:
        The columns of `INTERACTION_SCHEMA`; `event_id`; `request_id` and `position` of the version that gave
        them first, and when the service took it (`given_at_ms`), null if none did; the number of `lines`;
        and own signals, columns `flag.NAME` and `amount.NAME`, 0 where an exposure has none.

    Raises:
        BadInput: there is no such folder, or a line of it is none.
    """
    batches = [_merged(batch) for batch in _batches(_events(folder))]
    return _merged(pl.concat([pl.DataFrame(schema=_SCHEMA), *batches], how="diagonal"))


def _events(folder: Path) -> Iterator[LoggedEvent]:
    for path in log_files(folder, "events"):
        yield from decoded_lines(path, LoggedEvent)


def _batches(events: Iterator[LoggedEvent]) -> Iterator[pl.DataFrame]:
    while batch := list(islice(events, BATCH_LINES)):
        rows = ((*_values(event), _given_at_ms(event), 1) for event in batch)
        table = pl.DataFrame(dict(zip(_SCHEMA, zip(*rows, strict=True), strict=True)), _SCHEMA)
        yield table.with_columns(_signal_columns(batch))


def _signal_columns(events: Sequence[LoggedEvent]) -> list[pl.Series]:
    columns: dict[str, list[float]] = {}
    for row, event in enumerate(events):
        for name, value in (event.signals or {}).items():
            column = (_FLAG if isinstance(value, bool) else _AMOUNT) + name
            columns.setdefault(column, [0.0] * len(events))[row] = float(value)
    return [pl.Series(name, values, pl.Float64) for name, values in columns.items()]


def _signals(columns: Sequence[str], declared: Signals) -> Signals:
    """Say of what kind each of the own signals in these columns is."""
    given = {kind: _names(columns, kind) for kind in (_FLAG, _AMOUNT)}
    flags = [*declared.flags, *(name for name in given[_FLAG] if name not in declared.names)]
    numbers = [*declared.numbers, *given[_AMOUNT]]
    usual = {name.removeprefix("negative.") for name in NAMES_OF_SIGNALS if name.startswith("negative.")}
    negative = {*declared.negative, *(usual - set(declared.positive))}
    return Signals(
        positive=tuple(name for name in flags if name not in negative),
        negative=tuple(name for name in flags if name in negative),
        numbers=tuple(name for name in dict.fromkeys(numbers) if name not in flags),
    )


def with_signal_names(exposures: pl.DataFrame) -> pl.DataFrame:
    """Return `served_exposures` with own signals in columns of their plain names."""
    return exposures.rename(
        {kind + name: name for kind in (_FLAG, _AMOUNT) for name in _names(exposures.columns, kind)}
    )


def signals_of(exposures: pl.DataFrame) -> list[dict[str, bool | float]]:
    """Return the signals of each row of `served_exposures`, as an event has them."""
    columns = [name for name in exposures.columns if name.startswith((_FLAG, _AMOUNT))]
    names = [name.partition(".")[2] for name in columns]
    rows = exposures.select(columns).iter_rows() if columns else iter([()] * len(exposures))
    return [dict(zip(names, row, strict=True)) for row in rows]


def _names(columns: Sequence[str], kind: str) -> list[str]:
    return sorted(name.removeprefix(kind) for name in columns if name.startswith(kind))


def _given_at_ms(event: LoggedEvent) -> int | None:
    return None if event.request_id is None and event.position is None else event.logged_at_ms


def _merged(versions: pl.DataFrame) -> pl.DataFrame:
    """Merge the versions of each exposure; merging what is merged changes nothing."""
    own = [name for name in versions.columns if name.startswith((_FLAG, _AMOUNT))]
    return (
        versions.sort("given_at_ms", "request_id", "position", nulls_last=True)
        .group_by(EXPOSURE)
        .agg(
            pl.col("timestamp_ms", "watch_time_s", "duration_s", *FLAGS, *NULLABLE).max(),
            pl.col("request_id", "position", "given_at_ms").first(),
            pl.col("lines").sum(),
            pl.col(own).max().fill_null(0.0),
        )
        .select([*_SCHEMA, *own])
    )
