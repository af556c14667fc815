"""Splits by time: the rows to fit on precede the rows to evaluate on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from models.arrays import F32, I64
from models.errors import BadInput

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Boundaries:
    """Three moments that cut a log into four half-open windows, in Unix milliseconds.

        train = (-∞, meta_ms)   meta = [meta_ms, early_stop_ms)
        early_stop = [early_stop_ms, test_ms)   test = [test_ms, ∞)

    Raises:
        BadInput: they are not in this order. Equal moments make a window empty.
    """

    meta_ms: int
    early_stop_ms: int
    test_ms: int

    def __post_init__(self) -> None:
        if not self.meta_ms <= self.early_stop_ms <= self.test_ms:
            raise BadInput(
                "the windows must follow each other: train, meta, early stop, test; found "
                f"meta {self.meta_ms}, early stop {self.early_stop_ms}, test {self.test_ms}."
            )

    @classmethod
    def at_days(cls, meta: str, early_stop: str, test: str, *, utc_offset_hours: float) -> Boundaries:
        """Return windows that begin at midnight of the given dates, in the dataset's time zone."""
        return cls(*(day_to_ms(day, utc_offset_hours) for day in (meta, early_stop, test)))

    @classmethod
    def at_last_days(
        cls,
        first_ms: int,
        last_ms: int,
        *,
        meta_days: int,
        stop_days: int,
        test_days: int,
        utc_offset_hours: float,
    ) -> Boundaries:
        """Return windows of whole days in the dataset's time zone, counted from the end of the log.

        Args:
            first_ms, last_ms: the log's first and last row.
            meta_days, stop_days, test_days: length of each window; 0 makes it empty.
            utc_offset_hours: how far the dataset's time zone is ahead of UTC.

        Raises:
            BadInput: no day is left to fit on.
        """
        offset = round(utc_offset_hours * 3_600_000)
        first, last = (first_ms + offset) // DAY_MS, (last_ms + offset) // DAY_MS
        need = test_days + stop_days + meta_days + 1
        if last - first + 1 < need:
            raise BadInput(
                f"the log spans {last - first + 1} days, {need} are needed: {test_days} to test, "
                f"{stop_days} to stop early, {meta_days} for the meta hold-out, 1 to train."
            )
        test = last + 1 - test_days
        meta = test - stop_days - meta_days
        return cls(*(int(day * DAY_MS - offset) for day in (meta, test - stop_days, test)))

    @classmethod
    def at_shares(cls, timestamp_ms: I64, *, meta: float, early_stop: float, test: float) -> Boundaries:
        """Return windows with about these shares of the rows, from the end; train gets the rest.

        Rows of the same millisecond stay together, so a share may be a little larger.

        Raises:
            BadInput: the shares are negative or leave nothing to fit on, or there are no rows.
        """
        if min(meta, early_stop, test) < 0 or meta + early_stop + test >= 1 or not len(timestamp_ms):
            raise BadInput(
                "the shares of meta, early stop and test must be 0 or more and sum to less than 1, of a log "
                f"with rows; found {meta}, {early_stop}, {test} of {len(timestamp_ms)} rows."
            )
        ordered = np.sort(timestamp_ms)
        after_last = int(ordered[-1]) + 1
        moments = []
        for share in (meta + early_stop + test, early_stop + test, test):
            row = round((1 - share) * len(ordered))
            moments.append(int(ordered[row]) if row < len(ordered) else after_last)
        return cls(*moments)


@dataclass(frozen=True)
class Split:
    """Rows of each window, ascending. Together they are all rows, each once."""

    train: I64
    """Rows to fit on."""
    meta: I64
    """Hold-out of LabelCraft's outer loop, on which the platform's objectives are computed."""
    early_stop: I64
    """Rows that decide early stopping."""
    test: I64
    """Rows of the reported figures; nothing is chosen by them."""


def split_by_time(timestamp_ms: I64, boundaries: Boundaries) -> Split:
    """Assign rows to the four windows.

    Args:
        timestamp_ms: `[N]` in any order.
        boundaries: the three moments.
    """
    moments = (boundaries.meta_ms, boundaries.early_stop_ms, boundaries.test_ms)
    window = np.searchsorted(np.array(moments), timestamp_ms, side="right")
    train, meta, early_stop, test = (np.flatnonzero(window == w).astype(np.int64) for w in range(4))
    return Split(train, meta, early_stop, test)


def day_to_ms(date: str, utc_offset_hours: float) -> int:
    """Return midnight at the start of a date, in Unix milliseconds.

    Args:
        date: `YYYY-MM-DD` in the dataset's time zone.
        utc_offset_hours: how far that zone is ahead of UTC (KuaiRand: 8, China), as in `dataset.json`.

    Raises:
        BadInput: there is no such date.
    """
    try:
        midnight = datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as e:
        raise BadInput(f"{date!r} is not a date; write it as YYYY-MM-DD.") from e
    return int(midnight.timestamp()) * 1000 - round(utc_offset_hours * 3_600_000)


def day_numbers(timestamp_ms: I64, utc_offset_hours: float) -> I64:
    """Return the day of each timestamp in the dataset's time zone, counted from 1970."""
    return (timestamp_ms + round(utc_offset_hours * 3_600_000)) // DAY_MS


def returned_next_day(user: I64, day: I64) -> F32:
    """Return 1.0 for each row whose user is seen on the following day, and 0.0 for the others.

    The last day's rows do not know: NaN.

    Args:
        user, day: of each row.
    """
    if not len(day):
        return np.zeros(0, np.float32)
    last = int(day.max())
    width = last + 2
    returned = np.isin(user * width + day + 1, np.unique(user * width + day))
    return np.where(day < last, returned, np.nan).astype(np.float32)


def ms_to_day(timestamp_ms: int, utc_offset_hours: float) -> str:
    """Return the date of a timestamp in the dataset's time zone: the inverse of `day_to_ms`."""
    local_s = (timestamp_ms + round(utc_offset_hours * 3_600_000)) / 1000
    return datetime.fromtimestamp(local_s, tz=UTC).strftime("%Y-%m-%d")
