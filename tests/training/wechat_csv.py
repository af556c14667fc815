"""The WeChat challenge's files as its authors publish them, from a few rows."""

from __future__ import annotations

from pathlib import Path

from tests.training.kuairand_csv import Row, write_csv

ACTIONS = [
    *("userid", "feedid", "date_", "device", "read_comment", "comment", "like", "play", "stay"),
    *("click_avatar", "forward", "follow", "favorite"),
]
FEEDS = [
    *("feedid", "authorid", "videoplayseconds", "description", "ocr", "asr", "bgm_song_id", "bgm_singer_id"),
    *("manual_keyword_list", "machine_keyword_list", "manual_tag_list", "machine_tag_list"),
    *("description_char", "ocr_char", "asr_char"),
]


def action(user: int, feed: int, day: int, **changes: object) -> Row:
    """4 s watched."""
    columns: Row = dict.fromkeys(ACTIONS, 0)
    columns |= {
        "userid": user,
        "feedid": feed,
        "date_": day,
        "device": 1 + user % 2,
        "play": 4_000,
        "stay": 5_000,
    }
    return columns | changes


def feed(video: int, **changes: object) -> Row:
    """10 s long."""
    columns: Row = dict.fromkeys(FEEDS, "")
    columns |= {"feedid": video, "authorid": 70 + video, "videoplayseconds": 10, "description": "7 8 9"}
    return columns | {"manual_tag_list": "12;4", "machine_tag_list": "12 0.9;4 0.5"} | changes


def actions() -> list[Row]:
    return [action(n % 2, n % 3, 1 + n // 4, play=4_000 + n) for n in range(12)]


def write(folder: Path, rows: list[Row] | None = None, feeds: list[Row] | None = None) -> Path:
    write_csv(folder / "user_action.csv", ACTIONS, actions() if rows is None else rows)
    write_csv(folder / "feed_info.csv", FEEDS, [feed(v) for v in range(3)] if feeds is None else feeds)
    return folder
