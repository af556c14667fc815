"""WeChat Channels, the WeChat Big Data Challenge of 2021: `user_action.csv` and `feed_info.csv`.

Published for the contest at https://algo.weixin.qq.com. Findings and how the reader treats them:

* `play` is milliseconds, `videoplayseconds` is seconds;
* time is published to the day only (`date_`, from 1 on, without the calendar date). Timestamps are
  **invented**: day 1 is 2021-01-01, and the k-th row of a user's day in the file is k seconds after midnight
  (closer together if a day has more rows than seconds). The order of days is real; within a day it is the
  order of the file, and ages and hours carry no information;
* `click_avatar` is `profile_enter`; the app has no dislike, so `hate` is false; `favorite` and `read_comment`
  have no column in a log and are not read;
* duplicate rows are dropped. Two rows of a user and video on one day that differ are both kept;
* rows whose video has no length, or is not in `feed_info.csv`, are dropped: they have no watch ratio;
* `tag` is the first of `manual_tag_list`; the `device` of a user's first row is the profile. The contest's
  test days have no feedback and are not read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import polars as pl

from models.errors import BadInput
from models.schema import MAX_DURATION_S, MAX_WATCH_TIME_S
from training.data._checks import check_amounts, check_same_unit, refuse_first, refuse_repeats
from training.data._files import Kind, find_one, read_columns, release_folder, without_decimals
from training.data._split import DAY_MS, day_to_ms
from training.data._tables import Info, LogExtent, ProfileSchema, RowCounts, Tables, in_order

HOME: Final = "https://algo.weixin.qq.com"

DAY_1: Final = "2021-01-01"
"""The invented date of `date_` 1, so that `date_` 14 is the 14th."""

LAST_DAY: Final = 31
"""The contest has 14 days and predicts the 15th. Larger values of `date_` are calendar dates."""

_FLAGS: Final = ("like", "follow", "comment", "forward", "click_avatar")
_ACTIONS: Final = {
    "userid": Kind.ID, "feedid": Kind.ID, "date_": Kind.WHOLE, "device": Kind.ID, "play": Kind.NUMBER,
    **dict.fromkeys(_FLAGS, Kind.WHOLE),
}  # fmt: skip
_FEEDS: Final = {"feedid": Kind.ID, "videoplayseconds": Kind.NUMBER}
_MORE_OF_FEEDS: Final = {
    "authorid": Kind.ID, "manual_tag_list": Kind.TEXT, "bgm_song_id": Kind.ID, "bgm_singer_id": Kind.ID,
}  # fmt: skip


def read_wechat(source: Path | None, seed: int) -> Tables:
    """Read both tables of the contest's training data.

    Args:
        source: the folder with `user_action.csv` and `feed_info.csv`, or the same tables as parquet.
        seed: unused; nothing is sampled.

    Raises:
        BadInput: as `training.data.prepare`.
    """
    del seed
    folder = release_folder("wechat", source, ("data", "wechat_algo_data1"), ("user_action",), HOME)
    path = find_one(folder, "user_action")
    feeds = find_one(folder, "feed_info")
    videos = _feeds(feeds)
    raw = _actions(path)
    _check_units(raw, videos, path.name, feeds.name)
    log, dropped = _exposures(raw, videos)
    if log.is_empty():
        raise BadInput(f"{folder}: no row of {path.name} can be used; dropped {dropped}.")
    users = raw.select("userid", "device").unique("userid", keep="first", maintain_order=True)
    info = Info(
        dataset="wechat",
        source=f"{HOME} (user_action, feed_info)",
        licence="none published; given to participants of the WeChat Big Data Challenge 2021 under its rules",
        citation="WeChat Big Data Challenge 2021, https://algo.weixin.qq.com",
        rows=RowCounts(read=len(raw), kept=len(log), dropped=dropped),
        **LogExtent.from_log(log.lazy(), 0.0).as_info(),
        utc_offset_hours=0.0,
        main_tab=None,
        profile=ProfileSchema(categories=("device",)),
        notes=(
            f"Times are known to the day: day 1 is called {DAY_1}, and within a day timestamps follow the "
            "order of the file.",
        ),
    )
    return Tables(log, users.select(user_id="userid", device="device").sort("user_id"), videos, info)


def _actions(path: Path) -> pl.DataFrame:
    """Read the log and check it in the units and order of the file, so that messages can name rows."""
    log, file = read_columns(path, _ACTIONS), path.name
    if log.is_empty():
        raise BadInput(f"{file} has no rows; nothing can be learned from it.")
    for name in _ACTIONS:
        refuse_first(log, pl.col(name).is_null(), file, name, "is empty; is the file cut off?")
    for name in _FLAGS:
        refuse_first(log, ~pl.col(name).is_in([0, 1]), file, name, "must be 0 or 1")
    day = pl.col("date_")
    refuse_first(log, (day < 1) | (day > LAST_DAY), file, "date_", f"is no day from 1 to {LAST_DAY}")
    check_amounts(log, "play", file, high=MAX_WATCH_TIME_S * 1000, unit="ms")
    return log


def _feeds(path: Path) -> pl.DataFrame:
    feeds = read_columns(path, _FEEDS, _MORE_OF_FEEDS)
    refuse_repeats(feeds, "feedid", path.name)
    check_amounts(feeds, "videoplayseconds", path.name, high=MAX_DURATION_S, unit="s")
    feeds = feeds.with_columns(
        pl.lit(None, pl.String).alias(name) for name in _MORE_OF_FEEDS if name not in feeds.columns
    )
    length = pl.col("videoplayseconds")
    return feeds.select(
        video_id="feedid",
        duration_s=pl.when(length > 0).then(length),
        author_id="authorid",
        tag=without_decimals(pl.col("manual_tag_list").str.split(";").list.first()),
        tags="manual_tag_list",
        music_id="bgm_song_id",
        singer_id="bgm_singer_id",
    ).sort("video_id")


def _check_units(raw: pl.DataFrame, videos: pl.DataFrame, actions: str, feeds: str) -> None:
    """`play` is milliseconds and lengths are seconds: as seconds, their ratios are those of one unit."""
    both = raw.join(videos, left_on="feedid", right_on="video_id").select(
        pl.col("play") / 1000, videoplayseconds="duration_s"
    )
    try:
        check_same_unit(both, "play", "videoplayseconds", f"{actions} and {feeds}")
    except BadInput as e:
        raise BadInput(f"{e} `play` must be milliseconds and `videoplayseconds` seconds.") from e


def _exposures(raw: pl.DataFrame, videos: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """The log in seconds on the invented clock, and how many rows were dropped for which reason."""
    once = raw.unique(maintain_order=True)
    timed = once.with_columns(place=pl.int_range(pl.len()).over("userid", "date_"))
    kept = timed.join(videos, left_on="feedid", right_on="video_id", maintain_order="left").filter(
        pl.col("duration_s") > 0
    )
    most = int(timed["place"].to_numpy().max(initial=0)) + 1
    step_ms = min(1_000, DAY_MS // most)
    dropped = {"exact_duplicate": len(raw) - len(once), "no_duration": len(once) - len(kept)}
    log = kept.select(
        "author_id",
        "tag",
        *(pl.col(name) == 1 for name in _FLAGS if name != "click_avatar"),
        user_id="userid",
        video_id="feedid",
        tab=pl.lit(None, pl.String),
        timestamp_ms=day_to_ms(DAY_1, 0.0) + (pl.col("date_") - 1) * DAY_MS + pl.col("place") * step_ms,
        watch_time_s=pl.col("play") / 1000,
        duration_s="duration_s",
        hate=pl.lit(False),
        profile_enter=pl.col("click_avatar") == 1,
    )
    return in_order(log), dropped
