"""The profile of a log: the figures of `data.md`."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict

from models.schema import FLAGS
from training.data import Dataset, Info

USER_ROWS: Final = (1, 2, 6, 21, 101)
"""Least number of rows of each group of users."""
DURATIONS_S: Final = (0, 7, 15, 30, 60, 120, 300)
"""Shortest duration of each group of rows, seconds."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Day(_Record):
    """One date of the log."""

    date: str
    rows: int
    users: int


class UserGroup(_Record):
    """Users with about as many rows."""

    name: str
    users: int
    rows: int


class DurationGroup(_Record):
    """Rows of about as long videos."""

    name: str
    rows: int
    p10: float
    """Watch ratio: of a tenth of the rows it is lower."""
    median: float
    p90: float
    complete: float
    """Share of rows watched to the end."""


class Profile(_Record):
    """What a log holds."""

    dataset: str
    source: str
    rows: int
    users: int
    videos: int
    authors: int
    tags: int
    dropped: dict[str, int]
    days: tuple[Day, ...]
    """Every date from the first to the last, also those without rows."""
    user_groups: tuple[UserGroup, ...]
    duration_groups: tuple[DurationGroup, ...]
    median_watch_time_s: float
    median_duration_s: float
    feedback: dict[str, float]
    """Share of rows with each kind."""
    tabs: dict[str, int]
    main_tab: str | None
    known_author: float
    """Share of rows."""
    known_tag: float
    profile_numbers: tuple[str, ...]
    profile_categories: tuple[str, ...]
    signs: Signs


class Signs(_Record):
    """Shares of rows that show how a log was written."""

    more_than_watched_once: float
    """Of the videos watched to the end: watched for longer than they are."""
    exactly_the_duration: float
    """Watch time and duration are equal."""
    same_time: float
    """Another row of the user has the same time."""
    overlapping: float
    """The user's next row begins a minute or more before this one can have ended."""
    only_row_of_video: float


class _Group(NamedTuple):
    name: str
    low: float
    high: float


def profile(dataset: Dataset) -> Profile:
    """Return the profile of a log in memory."""
    log, info = dataset.log, dataset.info
    flags = (*FLAGS, *dataset.signals.flags)
    share_of_flags = log.select(pl.col(name).mean() for name in flags).row(0, named=True)
    tabs = log["tab"].drop_nulls().value_counts(sort=True)
    return Profile(
        dataset=info.dataset,
        source=info.source,
        rows=len(log),
        users=log["user_id"].n_unique(),
        videos=log["video_id"].n_unique(),
        authors=log["author_id"].drop_nulls().n_unique(),
        tags=log["tag"].drop_nulls().n_unique(),
        dropped={reason: rows for reason, rows in info.rows.dropped.items() if rows},
        days=_days(log, info),
        user_groups=_user_groups(log),
        duration_groups=_duration_groups(log),
        median_watch_time_s=float(np.median(log["watch_time_s"].to_numpy())),
        median_duration_s=float(np.median(log["duration_s"].to_numpy())),
        feedback=share_of_flags,
        tabs=dict(tabs.iter_rows()),
        main_tab=info.main_tab,
        known_author=1 - log["author_id"].null_count() / len(log),
        known_tag=1 - log["tag"].null_count() / len(log),
        profile_numbers=dataset.profile_numbers,
        profile_categories=dataset.profile_categories,
        signs=_signs(log),
    )


def date_of(info: Info) -> pl.Expr:
    """Return the date of a row in the log's time zone."""
    offset_ms = round(info.utc_offset_hours * 3_600_000)
    return pl.from_epoch(pl.col("timestamp_ms") + offset_ms, time_unit="ms").dt.date()


def _days(log: pl.DataFrame, info: Info) -> tuple[Day, ...]:
    counted = log.group_by(date=date_of(info)).agg(rows=pl.len(), users=pl.col("user_id").n_unique())
    dates = counted.select(pl.date_range(pl.col("date").min(), pl.col("date").max()))
    every = dates.join(counted, on="date", how="left", maintain_order="left").fill_null(0)
    return tuple(
        Day(date=f"{date:%Y-%m-%d}", rows=rows, users=users) for date, rows, users in every.iter_rows()
    )


def _user_groups(log: pl.DataFrame) -> tuple[UserGroup, ...]:
    rows = log.group_by("user_id").len()["len"]
    groups = []
    for name, low, high in _groups(USER_ROWS, integer=True):
        inside = rows.filter((rows >= low) & (rows < high))
        groups.append(UserGroup(name=name, users=len(inside), rows=int(inside.sum())))
    return tuple(groups)


def _duration_groups(log: pl.DataFrame) -> tuple[DurationGroup, ...]:
    duration = log["duration_s"].to_numpy()
    ratio = log["watch_time_s"].to_numpy() / duration
    groups = []
    for name, low, high in _groups(DURATIONS_S, integer=False):
        inside = ratio[(duration >= low) & (duration < high)]
        if len(inside):
            p10, median, p90 = np.quantile(inside, [0.1, 0.5, 0.9])
            groups.append(
                DurationGroup(
                    name=name,
                    rows=len(inside),
                    p10=p10,
                    median=median,
                    p90=p90,
                    complete=(inside >= 1).mean(),
                )
            )
    return tuple(groups)


def _groups(ends: tuple[int, ...], *, integer: bool) -> list[_Group]:
    groups = []
    for low, high in zip(ends, (*ends[1:], np.inf), strict=True):
        last = high - 1 if integer else high
        name = f"{low}+" if high == np.inf else f"{low}" if last == low else f"{low}-{last:.0f}"
        groups.append(_Group(name, low, high))
    return groups


def _signs(log: pl.DataFrame) -> Signs:
    watch, duration = pl.col("watch_time_s"), pl.col("duration_s")
    ended = (watch >= duration).sum()
    by_user = log.select("user_id", "timestamp_ms", "watch_time_s").sort("user_id", "timestamp_ms")
    same_user = pl.col("user_id") == pl.col("user_id").shift(-1)
    until_next_s = (pl.col("timestamp_ms").shift(-1) - pl.col("timestamp_ms")) / 1000
    in_order = by_user.select(
        same_time=(same_user & (until_next_s == 0)).sum(),
        overlapping=(same_user & (until_next_s > 0) & (until_next_s <= pl.col("watch_time_s") - 60)).sum(),
    ).row(0, named=True)
    shares = log.select(
        more_than_watched_once=pl.when(ended > 0).then((watch > duration).sum() / ended).otherwise(0.0),
        exactly_the_duration=(watch == duration).mean(),
    ).row(0, named=True)
    videos = log.group_by("video_id").len()["len"]
    return Signs(
        **shares,
        **{name: count / len(log) for name, count in in_order.items()},
        only_row_of_video=int((videos == 1).sum()) / len(log),
    )
