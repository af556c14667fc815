"""Rows of a log that cannot be used: each has one reason, the first that holds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from models.errors import BadInput
from models.schema import (
    CONTROL_CHARACTERS,
    MAX_DURATION_S,
    MAX_ID_BYTES,
    MAX_WATCH_TIME_S,
    MIN_DURATION_S,
)
from models.signals import MAX_AMOUNT
from training.data._checks import EARLIEST_MS
from training.data._split import DAY_MS
from training.data.own_log._values import has_lost_digits


class Fault(NamedTuple):
    """Why rows are dropped or merged."""

    reason: str
    """In `dataset.json`."""
    text: str
    rows: int
    example: str | None = None
    """A value that is so."""

    def __str__(self) -> str:
        example = f", such as {self.example!r}" if self.example else ""
        return f"{self.rows:,} {'row' if self.rows == 1 else 'rows'}: {self.text}{example}"


class Rule(NamedTuple):
    """A condition on a staged row, in the words of DuckDB."""

    reason: str
    text: str
    condition: str
    value: str
    """The column that is wrong."""


LOST_DIGITS: Final = "lost_digits"
"""A spreadsheet or a floating-point column has rounded a long number. Such rows are not dropped but refused:
others have been rounded to the same number."""
UNREADABLE_LINE: Final = (
    "unreadable_line",
    "the line is no row: it has more or fewer columns than the header",
)
EXACT_DUPLICATE: Final = ("exact_duplicate", "the row is there already")
LOGGED_TWICE: Final = (
    "logged_twice",
    "same user, video and time as another; the longest watch time is kept, with the feedback of all",
)


def rules(numbers: Sequence[str] = ()) -> tuple[Rule, ...]:
    """Return the rules, in the order in which they are checked.

    Args:
        numbers: own signals with amounts.
    """
    latest = round(time.time() * 1000) + DAY_MS
    ids = ("user_id", "video_id", "tab", "author_id", "tag")
    return (
        Rule(
            "empty_row",
            "the row is empty",
            "coalesce(user_id, video_id, raw_time, raw_watch) IS NULL",
            "user_id",
        ),
        Rule(LOST_DIGITS, "`user_id` has lost digits", has_lost_digits("user_id"), "user_id"),
        Rule(LOST_DIGITS, "`video_id` has lost digits", has_lost_digits("video_id"), "video_id"),
        Rule(LOST_DIGITS, "the time has lost digits", has_lost_digits("raw_time"), "raw_time"),
        Rule("no_user_id", "no user", "user_id IS NULL", "user_id"),
        Rule("no_video_id", "no video", "video_id IS NULL", "video_id"),
        *(
            rule
            for name in ids
            for rule in (
                Rule(
                    f"{name}_too_long",
                    f"`{name}` has more than {MAX_ID_BYTES} bytes",
                    f"strlen({name}) > {MAX_ID_BYTES}",
                    name,
                ),
                Rule(
                    f"{name}_with_control_character",
                    f"`{name}` holds a control character",
                    f"regexp_matches({name}, '{CONTROL_CHARACTERS}')",
                    name,
                ),
            )
        ),
        Rule("no_time", "no time", "raw_time IS NULL", "raw_time"),
        Rule("invalid_time", "the time is none", "timestamp_ms IS NULL", "raw_time"),
        Rule("time_before_2000", "the time is before 2000", f"timestamp_ms < {EARLIEST_MS}", "raw_time"),
        Rule("time_in_the_future", "the time is in the future", f"timestamp_ms > {latest}", "raw_time"),
        Rule("no_watch_time", "no watch time", "raw_watch IS NULL", "raw_watch"),
        Rule("invalid_watch_time", "the watch time is no number", "watch_time_s IS NULL", "raw_watch"),
        Rule("negative_watch_time", "the watch time is negative", "watch_time_s < 0", "raw_watch"),
        Rule(
            "watch_time_too_long",
            f"the watch time is above {MAX_WATCH_TIME_S:,.0f} s",
            f"watch_time_s > {MAX_WATCH_TIME_S!r}",
            "raw_watch",
        ),
        Rule("no_duration", "no duration, in the log or its video", "duration_s IS NULL", "raw_duration"),
        Rule(
            "invalid_duration",
            f"the duration is not between {MIN_DURATION_S} and {MAX_DURATION_S:,.0f} s",
            f"NOT duration_s BETWEEN {MIN_DURATION_S!r} AND {MAX_DURATION_S!r}",
            "raw_duration",
        ),
        Rule("invalid_flag", "feedback that is neither yes, no, nor a count", "flags IS NULL", "raw_flags"),
        *(
            Rule(
                f"invalid_{name}",
                f"`{name}` is no number from 0 to {MAX_AMOUNT:g}",
                f'NOT coalesce("{name}" BETWEEN 0 AND {MAX_AMOUNT!r}, false)',
                f'"raw_{name}"',
            )
            for name in numbers
        ),
    )


def first_reason(checked: tuple[Rule, ...]) -> str:
    """Return the expression for the number of the first rule that a row breaks; null if none."""
    return f"CASE {' '.join(f'WHEN {r.condition} THEN {n}' for n, r in enumerate(checked))} END"


def wrong_value(checked: tuple[Rule, ...]) -> str:
    """Return the expression for the value that breaks rule `reason` of a row."""
    return f"CASE reason {' '.join(f'WHEN {n} THEN {r.value}' for n, r in enumerate(checked))} END"


def refuse_lost_digits(faults: Iterable[Fault], source: Path) -> None:
    """Refuse a log in which long numbers have been rounded.

    Raises:
        BadInput: names the column and an example.
    """
    for fault in faults:
        if fault.reason == LOST_DIGITS:
            raise BadInput(f"{source.name}: {fault}; save the column as text, or as whole numbers.")
