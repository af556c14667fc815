"""The served log: what a service with `REELRANK_LOG_DIR` accepted as feedback.

One exposure has a line for each version and repetition of its event. They become one row by the service's
rule (`models/event_schema.md`), so a log that was written by several workers, some of which were killed, is
read to what was sent. Profiles and histories are not in the log.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Final

import polars as pl

from models.errors import BadInput
from models.schema import FLAGS
from models.served_log import LoggedEvent, decoded_lines, log_files
from training.data._tables import INTERACTION_SCHEMA, NULLABLE, Info, LogExtent, RowCounts, Tables, in_order

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
_values: Final = attrgetter("event_id", *INTERACTION_SCHEMA, "request_id", "position")


def read_served(source: Path | None, seed: int) -> Tables:
    """Read the events of a served log.

    Args:
        source: the folder that was given to the service as `REELRANK_LOG_DIR`. The service may run.
        seed: unused; nothing is sampled.

    Raises:
        BadInput: as `training.data.prepare`, or a line that is none.
    """
    del seed
    if source is None:
        raise BadInput(
            "served is read from a folder, REELRANK_LOG_DIR of the service; give it with --source."
        )
    exposures = served_exposures(source)
    if exposures.is_empty():
        raise BadInput(f"{source} holds no event yet; was REELRANK_LOG_DIR set when the service took them?")
    lines = int(exposures["lines"].sum())
    log = in_order(exposures)
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
        notes=("Profiles and histories that the service was given are not in its log.",),
    )
    return Tables(log, users, videos, info)


def served_exposures(folder: Path) -> pl.DataFrame:
    """Return the exposures of a served log, in any order.

    Returns:
        The columns of `INTERACTION_SCHEMA`; `event_id`; `request_id` and `position` of the version that gave
        them first, and when the service took it (`given_at_ms`), null if none did; the number of `lines`.

    Raises:
        BadInput: there is no such folder, or a line of it is none.
    """
    files = log_files(folder, "events")
    events = (event for path in files for event in decoded_lines(path, LoggedEvent))
    batches = [_merged(batch) for batch in _batches(events)]
    return _merged(pl.concat([pl.DataFrame(schema=_SCHEMA), *batches]))


def _batches(events: Iterator[LoggedEvent]) -> Iterator[pl.DataFrame]:
    while batch := list(islice(events, BATCH_LINES)):
        rows = ((*_values(event), _given_at_ms(event), 1) for event in batch)
        yield pl.DataFrame(dict(zip(_SCHEMA, zip(*rows, strict=True), strict=True)), _SCHEMA)


def _given_at_ms(event: LoggedEvent) -> int | None:
    return None if event.request_id is None and event.position is None else event.logged_at_ms


def _merged(versions: pl.DataFrame) -> pl.DataFrame:
    """Merge the versions of each exposure; merging what is merged changes nothing."""
    return (
        versions.sort("given_at_ms", "request_id", "position", nulls_last=True)
        .group_by(EXPOSURE)
        .agg(
            pl.col("timestamp_ms", "watch_time_s", "duration_s", *FLAGS, *NULLABLE).max(),
            pl.col("request_id", "position", "given_at_ms").first(),
            pl.col("lines").sum(),
        )
        .select(list(_SCHEMA))
    )
