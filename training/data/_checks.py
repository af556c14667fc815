"""Checks of a log. The error names the first row that fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import polars as pl

from models.errors import BadInput
from models.schema import (
    CONTROL_CHARACTERS,
    MAX_DURATION_S,
    MAX_ID_BYTES,
    MAX_TIMESTAMP_MS,
    MAX_WATCH_TIME_S,
)
from models.signals import MAX_AMOUNT, NO_SIGNALS, Signals
from training.data._tables import INTERACTION_SCHEMA, NULLABLE

EARLIEST_MS: Final = 946_684_800_000
"""2000-01-01. Earlier timestamps are in seconds, or wrong."""

LONG_MEDIAN_S: Final = 3_600.0
"""An hour. No feed of short videos has a longer median, but any feed in milliseconds does."""

ONE_UNIT: Final = (0.005, 20.0)
"""Plausible median watch ratios. Real ones lie between 0.05 and 2, and a mix-up of seconds and milliseconds
moves them by 1,000."""


def check_interactions(log: pl.DataFrame, file: str) -> None:
    """Refuse a log that cannot be fitted on.

    Args:
        log: at least the columns of `INTERACTION_SCHEMA`, in its types.
        file: the file's name, for the message.

    Raises:
        BadInput: no rows, a missing id, or a value outside its range or unit.
    """
    if log.is_empty():
        raise BadInput(f"{file} has no rows; nothing can be learned from it.")
    check_each_row(log, file)
    check_medians(log, file)


class Rule(NamedTuple):
    """What no row of a column may be."""

    column: str
    broken: pl.Expr
    text: str


def check_each_row(log: pl.DataFrame, file: str) -> None:
    """Check the rows of a part of a log, which may be empty.

    Raises:
        BadInput: a missing id, or a value outside its range. The first such row is named.
    """
    for rule in row_rules():
        refuse_first(log, rule.broken, file, rule.column, rule.text)


def row_rules(signals: Signals = NO_SIGNALS) -> Iterator[Rule]:
    """Yield the rules for the columns of `interaction_schema`, in the order in which they are checked."""
    for name in INTERACTION_SCHEMA:
        if name not in NULLABLE:
            yield Rule(name, pl.col(name).is_null(), "is empty, and must not be")
    for name in ("user_id", "video_id", *NULLABLE):
        yield from _id_rules(name)
    yield from _time_rules("timestamp_ms")
    yield from _amount_rules("watch_time_s", MAX_WATCH_TIME_S, "s")
    yield from _amount_rules("duration_s", MAX_DURATION_S, "s")
    yield Rule("duration_s", pl.col("duration_s") <= 0, "must be above 0 s; leave the row out")
    for name in signals.names:
        yield Rule(name, pl.col(name).is_null(), "is empty, and must not be")
    for name in signals.numbers:
        yield from _amount_rules(name, MAX_AMOUNT, "")


def check_ids(table: pl.DataFrame, name: str, file: str) -> None:
    """Refuse ids that the service refuses, see `models.schema.checked_id`.

    Raises:
        BadInput: the first such row is named.
    """
    for rule in _id_rules(name):
        refuse_first(table, rule.broken, file, name, rule.text)


def _id_rules(name: str) -> Iterator[Rule]:
    size = pl.col(name).str.len_bytes()
    yield Rule(name, size == 0, "is an empty id")
    yield Rule(name, size > MAX_ID_BYTES, f"is an id of more than {MAX_ID_BYTES} bytes")
    yield Rule(name, pl.col(name).str.contains(CONTROL_CHARACTERS), "is an id with a control character")


def check_joins(log: pl.LazyFrame, table: pl.LazyFrame, key: str, file: str) -> None:
    """Refuse a table that describes no row of the log: the ids of one of them are spelled differently.

    Args:
        log: of which the first million rows are read.
        table: with rows of its own, or empty.
        key: what both have.
        file: the table's name, for the message.

    Raises:
        BadInput: no id is in both.
    """
    ids, ours = table.select(key).drop_nulls(), log.select(key).head(1_000_000)
    if ids.join(ours, on=key, how="semi").head(1).collect().is_empty():
        theirs = ids.head(1).collect()[key].to_list()
        if theirs:
            raise BadInput(
                f"{file} describes no `{key}` of the log: it has {theirs[0]!r}, the log has "
                f"{ours.head(1).collect()[key][0]!r}. Are ids spelled differently, or is it of another log?"
            )


def check_medians(log: pl.DataFrame, file: str) -> None:
    """Refuse a log whose medians show that times are not seconds, so give it many rows.

    Raises:
        BadInput: names the column and the likely unit.
    """
    median = _median(log["duration_s"])
    if median > LONG_MEDIAN_S:
        raise BadInput(
            f"{file}: `duration_s` looks like milliseconds: the median is {median:,.0f}; give seconds."
        )
    check_same_unit(log, "watch_time_s", "duration_s", file)


def check_timestamps(log: pl.DataFrame, name: str, file: str) -> None:
    """Refuse timestamps that are not Unix milliseconds.

    Raises:
        BadInput: before 2000 (probably seconds) or after 9999 (probably microseconds).
    """
    for rule in _time_rules(name):
        refuse_first(log, rule.broken, file, name, rule.text)


def _time_rules(name: str) -> Iterator[Rule]:
    for broken, unit in (
        (pl.col(name) < EARLIEST_MS, "seconds"),
        (pl.col(name) > MAX_TIMESTAMP_MS, "microseconds"),
    ):
        yield Rule(name, broken, f"is not a time in Unix milliseconds; is it in {unit}?")


def check_amounts(log: pl.DataFrame, name: str, file: str, *, high: float, unit: str) -> None:
    """Refuse a column with negative, non-finite or absurdly large amounts.

    Raises:
        BadInput: the first such row is named.
    """
    for rule in _amount_rules(name, high, unit):
        refuse_first(log, rule.broken, file, name, rule.text)


def _amount_rules(name: str, high: float, unit: str) -> Iterator[Rule]:
    column = pl.col(name).cast(pl.Float64)
    yield Rule(name, ~column.is_finite(), "is not a finite number")
    yield Rule(name, column < 0, "is negative")
    yield Rule(name, column > high, f"is above {high:,.0f}{unit and f' {unit}'}; is the unit wrong?")


def check_same_unit(log: pl.DataFrame, watch: str, duration: str, file: str) -> None:
    """Refuse a log whose watch times and durations have different units.

    Raises:
        BadInput: the median watch ratio of the rows with any watching is outside `ONE_UNIT`.
    """
    watched = log.filter((pl.col(watch) > 0) & (pl.col(duration) > 0))
    ratio = _median(watched[watch].cast(pl.Float64) / watched[duration])
    if not watched.is_empty() and not ONE_UNIT[0] <= ratio <= ONE_UNIT[1]:
        raise BadInput(
            f"{file}: `{watch}` and `{duration}` have different units: the median watch ratio is {ratio:.2g}."
        )


def check_milliseconds(log: pl.DataFrame, name: str, file: str) -> None:
    """Refuse lengths of videos whose median is below a second or above an hour.

    Raises:
        BadInput: names the likely unit.
    """
    median = _median(log.filter(pl.col(name) > 0)[name])
    if median < 1_000 or median > 3_600_000:
        unit = "seconds" if median < 1_000 else "microseconds"
        raise BadInput(f"{file}: `{name}` looks like {unit}: the median is {median:,.6g}; give milliseconds.")


def refuse_repeats(table: pl.DataFrame, key: str, file: str) -> None:
    """Refuse a table in which a key is missing or listed twice.

    Raises:
        BadInput: the first such row is named.
    """
    refuse_first(table, pl.col(key).is_null(), file, key, "is empty; is the file cut off?")
    refuse_first(table, ~pl.col(key).is_first_distinct(), file, key, "is listed twice; keep one row for each")


def refuse_first(log: pl.DataFrame, bad: pl.Expr, file: str, name: str, rule: str) -> None:
    """Raise for the first row where `bad` is true (null is not).

    Raises:
        BadInput: "<file>, row <n>: `<column>` <rule> (found <value>, <count> such rows)."; rows count
            from 1, header excluded.
    """
    flags = log.select(bad.fill_null(False).alias("bad"))["bad"]
    row = flags.arg_max()
    if row is not None and flags[row]:
        found = log[name][row]
        count = int(flags.sum())
        more = f", {count:,} such rows" if count > 1 else ""
        raise BadInput(f"{file}, row {row + 1:,}: `{name}` {rule} (found {found!r}{more}).")


def _median(values: pl.Series) -> float:
    median = values.median()
    return float(median) if isinstance(median, int | float) else float("nan")
