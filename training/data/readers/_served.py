"""The served log: what a service with `REELRANK_LOG_DIR` accepted as feedback.

One exposure has a line for each version and repetition of its event. They become one row by the service's
rule (`models/event_schema.md`), so a log that was written by several workers, some of which were killed, is
read to what was sent. Profiles and histories are not in the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Final

import polars as pl

from models.errors import BadInput
from models.schema import FLAGS
from models.served_log import LoggedEvent, decoded_lines, log_files
from models.signals import NO_SIGNALS, Signals
from training.data._tables import INTERACTION_SCHEMA, NULLABLE, Info, LogExtent, RowCounts, Tables, in_order
from training.data.own_log import NAMES_OF_SIGNALS

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


def read_served(source: Path | None, declared: Signals = NO_SIGNALS) -> Tables:
    """Read the events of a served log.

    Args:
        source: the folder that was given to the service as `REELRANK_LOG_DIR`. The service may run.
        declared: own signals as the log that the service's bundle was fitted on has them. A yes or no that is
            not among them counts as positive, unless its name is that of a usual negative one.

    Raises:
        BadInput: as `training.data.prepare`, or a line that is none.
    """
    if source is None:
        raise BadInput(
            "served is read from a folder, REELRANK_LOG_DIR of the service; give it with --source."
        )
    exposures = served_exposures(source).sort("event_id")  # rows of one time have one order
    if exposures.is_empty():
        raise BadInput(f"{source} holds no event yet; was REELRANK_LOG_DIR set when the service took them?")
    lines = int(exposures["lines"].sum())
    exposures, signals = _with_signals(exposures, declared)
    log = in_order(exposures, signals)
    users = log.select(pl.col("user_id").unique().sort())
    videos = log.group_by("video_id").agg(pl.col("duration_s", "author_id", "tag").max()).sort("video_id")
    info = Info(
        dataset="served",
        source="events that a service of one's own has accepted",
        licence="one's own",
        citation="",
        rows=RowCounts(read=lines, kept=len(log), dropped={"merged_or_repeated": lines - len(log)}),
        **LogExtent.from_log(log.lazy(), 0.0).as_info(),
        utc_offset_hours=0.0,
        main_tab=None,
        signals=signals,
        notes=("Profiles and histories that the service was given are not in its log.",),
    )
    return Tables(log, users, videos, info)


def served_exposures(folder: Path) -> pl.DataFrame:
    """Return the exposures of a served log, in any order.

    Returns:
        The columns of `INTERACTION_SCHEMA`; `event_id`; `request_id` and `position` of the version that gave
        them first, and when the service took it (`given_at_ms`), null if none did; the number of `lines`;
        and own signals, columns `flag.NAME` and `amount.NAME`, 0 where an exposure has none.

    Raises:
        BadInput: there is no such folder, or a line of it is none.
    """
    files = log_files(folder, "events")
    events = (event for path in files for event in decoded_lines(path, LoggedEvent))
    batches = [_merged(batch) for batch in _batches(events)]
    return _merged(pl.concat([pl.DataFrame(schema=_SCHEMA), *batches], how="diagonal"))


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


def _with_signals(exposures: pl.DataFrame, declared: Signals) -> tuple[pl.DataFrame, Signals]:
    """Name the columns of signals as a log does, and say of what kind each is."""
    given = {kind: _names(exposures, kind) for kind in (_FLAG, _AMOUNT)}
    flags = [*declared.flags, *(name for name in given[_FLAG] if name not in declared.names)]
    numbers = [*declared.numbers, *given[_AMOUNT]]
    usual = {name.removeprefix("negative.") for name in NAMES_OF_SIGNALS if name.startswith("negative.")}
    negative = {*declared.negative, *(usual - set(declared.positive))}
    signals = Signals(
        positive=tuple(name for name in flags if name not in negative),
        negative=tuple(name for name in flags if name in negative),
        numbers=tuple(name for name in dict.fromkeys(numbers) if name not in flags),
    )
    columns = [
        (pl.col(kind + name) if name in given[kind] else pl.lit(0.0)).cast(dtype).alias(name)
        for kind, names, dtype in ((_FLAG, signals.flags, pl.Boolean), (_AMOUNT, signals.numbers, pl.Float64))
        for name in names
    ]
    return exposures.with_columns(columns), signals


def with_signal_names(exposures: pl.DataFrame) -> pl.DataFrame:
    """Return `served_exposures` with own signals in columns of their plain names."""
    return exposures.rename(
        {kind + name: name for kind in (_FLAG, _AMOUNT) for name in _names(exposures, kind)}
    )


def signals_of(exposures: pl.DataFrame) -> list[dict[str, bool | float]]:
    """Return the signals of each row of `served_exposures`, as an event has them."""
    columns = [name for name in exposures.columns if name.startswith((_FLAG, _AMOUNT))]
    names = [name.partition(".")[2] for name in columns]
    rows = exposures.select(columns).iter_rows() if columns else iter([()] * len(exposures))
    return [dict(zip(names, row, strict=True)) for row in rows]


def _names(exposures: pl.DataFrame, kind: str) -> list[str]:
    return sorted(name.removeprefix(kind) for name in exposures.columns if name.startswith(kind))


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
