"""The rows of a log of one's own: type_rows, checked, without duplicates and in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from models.schema import FLAGS
from models.signals import Signals
from training.data.own_log._faults import (
    EXACT_DUPLICATE,
    LOGGED_TWICE,
    UNREADABLE_LINE,
    Fault,
    Rule,
    first_reason,
    rules,
    wrong_value,
)
from training.data.own_log._files import Connection, Relation, TextTable, first_row, quoted
from training.data.own_log._mapping import OF_VIDEOS, ColumnMapping
from training.data.own_log._values import bits, flag, milliseconds, number, one_identifier, seconds, text

KEY: Final = ("user_id", "video_id", "timestamp_ms")
"""What an exposure is known by."""
FROM_VIDEOS: Final = ("duration_s", *OF_VIDEOS)
"""Columns that the table of videos may fill."""
_KEY: Final = ", ".join(KEY)
_COLUMNS: Final = ("watch_time_s", "duration_s", "flags", "tab", "author_id", "tag")
_NOTHING: Final = "CAST(NULL AS VARCHAR)"


def stage(
    connection: Connection, log: TextTable, mapping: ColumnMapping, videos: Relation | None, work: Path
) -> tuple[Relation, list[Fault]]:
    """Type and check every row, in one pass over the files.

    Args:
        connection: of DuckDB.
        log: the files.
        mapping: with every unit.
        videos: the catalogue, or nothing.
        work: a folder for the staged rows.

    Returns:
        The rows that can be used, and why the others cannot.
    """
    numbers = mapping.signals().numbers
    checked = rules(numbers)
    rows = type_rows(log.rows, mapping)
    if videos is not None:
        rows = _joined(rows, videos)
    path = work / "staged.parquet"
    if log.rejects is not None:
        connection.execute(f"TRUNCATE {log.rejects}")  # the sample has filled it, too
    check_rules(rows, checked, numbers).write_parquet(str(path), compression="lz4")
    staged = connection.read_parquet(str(path))
    counts = (
        staged.filter("reason IS NOT NULL").aggregate("reason, count(*), min(found)", "reason").fetchall()
    )
    faults = faults_of(counts, checked) + _rejected(connection, log)
    return staged.filter("reason IS NULL").project(", ".join(map(quoted, staged_columns(numbers)))), faults


def staged_columns(numbers: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of a row that is typed and checked.

    Args:
        numbers: own signals with amounts.
    """
    return (*KEY, *_COLUMNS, *numbers)


def check_rules(rows: Relation, checked: tuple[Rule, ...], numbers: Sequence[str]) -> Relation:
    """Return typed rows with the number of the first rule each breaks (`reason`) and the value (`found`)."""
    columns = ", ".join(map(quoted, staged_columns(numbers)))
    return rows.project(f"*, {first_reason(checked)} AS reason").project(
        f"{columns}, reason, {wrong_value(checked)} AS found"
    )


def faults_of(counts: Iterable[tuple[int, int, str | None]], checked: tuple[Rule, ...]) -> list[Fault]:
    """Return the faults of rows, by the number of the rule, how many rows break it, and an example."""
    return [Fault(checked[n].reason, checked[n].text, rows, found) for n, rows, found in sorted(counts)]


def faults_of_repeats(read: int, unique: int, kept: int) -> list[Fault]:
    """Return the faults of rows that are there twice, and of exposures that are."""
    faults = [Fault(*EXACT_DUPLICATE, read - unique), Fault(*LOGGED_TWICE, unique - kept)]
    return [fault for fault in faults if fault.rows]


def merge(
    connection: Connection, rows: Relation, signals: Signals, work: Path, out: Path
) -> tuple[int, list[Fault]]:
    """Write the rows without duplicates, oldest first.

    Args:
        connection: of DuckDB.
        rows: what `stage` returns.
        signals: what the log declares.
        work: a folder for the distinct rows.
        out: a new Parquet file with the columns of `interactions.parquet`, signals last.

    Returns:
        The number of rows written, and of those that were left out as duplicates.
    """
    path = work / "distinct.parquet"
    rows.distinct().write_parquet(str(path), compression="lz4")
    distinct = connection.read_parquet(str(path))
    numbers = [quoted(name) for name in signals.numbers]
    largest = "".join(f", max({name}) OVER (PARTITION BY {_KEY}) AS {name}" for name in numbers)
    exposures = distinct.project(
        f"* REPLACE (bit_or(flags) OVER (PARTITION BY {_KEY}) AS flags{largest}), "
        f"row_number() OVER (PARTITION BY {_KEY} ORDER BY watch_time_s DESC, duration_s DESC, tab, "
        "author_id, tag) AS copy"
    ).filter("copy = 1")
    bit_of = {name: bit for bit, name in enumerate((*FLAGS, *signals.flags))}
    flags, own = (
        [f"(flags >> {bit_of[name]}) & 1 = 1 AS {quoted(name)}" for name in names]
        for names in (FLAGS, signals.flags)
    )
    columns = (_KEY, "watch_time_s", "duration_s", *flags, "tab", "author_id", "tag", *own, *numbers)
    exposures.project(", ".join(columns)).order("timestamp_ms, user_id, video_id").write_parquet(str(out))
    read, unique, kept = _count(rows), _count(distinct), _count(connection.read_parquet(str(out)))
    return kept, faults_of_repeats(read, unique, kept)


def type_rows(rows: Relation, mapping: ColumnMapping) -> Relation:
    """Return rows of text in our columns and units, beside the text of what a rule may name."""
    ours, signals = mapping.interactions | mapping.signal_sources(), mapping.signals()

    def raw(target: str) -> str:
        return text(ours[target]) if target in ours else _NOTHING

    def unit(target: str) -> str:
        return (ours[target].unit if target in ours else None) or "s"

    names = (
        *FLAGS,
        *(f"positive.{n}" for n in signals.positive),
        *(f"negative.{n}" for n in signals.negative),
    )
    flags = [flag(ours[name]) if name in ours else "false" for name in names]
    of_flags = [column for name in names if name in ours for column in ours[name].columns]
    raw_flags = f"concat_ws(' ', {', '.join(map(quoted, of_flags))})" if of_flags else _NOTHING
    ids = ", ".join(
        f"{one_identifier(ours[name]) if name in ours else _NOTHING} AS {name}"
        for name in ("user_id", "video_id", "tab", *OF_VIDEOS)
    )
    amounts = "".join(
        f", {raw(f'numbers.{name}')} AS {quoted(f'raw_{name}')}, "
        f"CASE WHEN {raw(f'numbers.{name}')} IS NULL THEN 0 ELSE {number(raw(f'numbers.{name}'))} END "
        f"AS {quoted(name)}"
        for name in signals.numbers
    )
    return rows.project(
        f"{ids}, {raw('timestamp_ms')} AS raw_time, {raw('watch_time_s')} AS raw_watch, "
        f"{raw('duration_s')} AS raw_duration, {bits(flags)} AS flags, {raw_flags} AS raw_flags{amounts}"
    ).project(
        f"*, {milliseconds('raw_time', unit('timestamp_ms'), mapping.utc_offset_hours)} AS timestamp_ms, "
        f"{seconds('raw_watch', unit('watch_time_s'), 'watch_time_s')} AS watch_time_s, "
        f"{seconds('raw_duration', unit('duration_s'), 'duration_s')} AS duration_s"
    )


def _joined(rows: Relation, videos: Relation) -> Relation:
    known = videos.project(
        "video_id AS known_video_id, " + ", ".join(f"{name} AS known_{name}" for name in FROM_VIDEOS)
    )
    return fill_from_videos(rows.join(known, "video_id = known_video_id", how="left")).project(
        "* EXCLUDE (known_video_id)"
    )


def fill_from_videos(rows: Relation) -> Relation:
    """Return rows with what they do not say themselves from their videos, which stands in `known_…`."""
    of_video = ", ".join(f"coalesce({name}, known_{name}) AS {name}" for name in OF_VIDEOS)
    others = ", ".join((*FROM_VIDEOS, *(f"known_{name}" for name in FROM_VIDEOS)))
    return rows.project(
        f"* EXCLUDE ({others}), {of_video}, CASE WHEN duration_s > 0 THEN duration_s "
        "ELSE coalesce(known_duration_s, duration_s) END AS duration_s"
    )


def _rejected(connection: Connection, log: TextTable) -> list[Fault]:
    if log.rejects is None:
        return []
    lines = connection.table(log.rejects).aggregate("count(DISTINCT (scan_id, file_id, line)), min(csv_line)")
    count, example = first_row(lines) or (0, None)
    return [Fault(*UNREADABLE_LINE, count, example)] if count else []


def _count(rows: Relation) -> int:
    return int((first_row(rows.aggregate("count(*)")) or (0,))[0])
