"""A small KuaiRand-Pure in exactly the published layout, for the tests to spoil."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

LOG_COLUMNS = [
    *("user_id", "video_id", "date", "hourmin", "time_ms"),
    *("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view"),
    *("play_time_ms", "duration_ms", "profile_stay_time", "comment_stay_time"),
    *("is_profile_enter", "is_rand", "tab"),
]
USER_COLUMNS = [
    *("user_id", "user_active_degree", "is_lowactive_period", "is_live_streamer", "is_video_author"),
    *("follow_user_num", "follow_user_num_range", "fans_user_num", "fans_user_num_range"),
    *("friend_user_num", "friend_user_num_range", "register_days", "register_days_range"),
    *(f"onehot_feat{i}" for i in range(18)),
]
VIDEO_COLUMNS = [
    *("video_id", "author_id", "video_type", "upload_dt", "upload_type", "visible_status"),
    *("video_duration", "server_width", "server_height", "music_id", "music_type", "tag"),
]

FIRST_LOG = "log_standard_4_08_to_4_21_pure.csv"
SECOND_LOG = "log_standard_4_22_to_5_08_pure.csv"
USERS = "user_features_pure.csv"
VIDEOS = "video_features_basic_pure.csv"

LOGS_1K = ("log_standard_4_08_to_4_21_1k", "log_standard_4_22_to_5_08_1k")
LOGS_27K = tuple(
    f"log_standard_{days}_27k_part{part}" for days in ("4_08_to_4_21", "4_22_to_5_08") for part in (1, 2)
)
STATISTIC_COLUMNS = ["video_id", "counts", "show_cnt", "play_cnt"]

NOON = datetime(2022, 4, 20, 4, tzinfo=UTC)
"""Noon of 2022-04-20 in China."""

Row = dict[str, object]


def log_row(user: int, video: int, minute: int, **changes: object) -> Row:
    """An exposure `minute` minutes after noon of 2022-04-20 in China: 7 s of 20 s, in tab 1."""
    moment = NOON + timedelta(minutes=minute)
    local = moment + timedelta(hours=8)
    row: Row = dict.fromkeys(LOG_COLUMNS, 0)
    row |= {
        "user_id": user,
        "video_id": video,
        "date": f"{local:%Y%m%d}",
        "hourmin": f"{local:%H}00",
        "time_ms": int(moment.timestamp() * 1000),
        "play_time_ms": 7_000,
        "duration_ms": 20_000,
        "tab": 1,
    }
    return row | changes


def user_row(user: int, **changes: object) -> Row:
    row: Row = dict.fromkeys(USER_COLUMNS, 0)
    return row | {"user_id": user, "user_active_degree": "full_active", "register_days": 45} | changes


def video_row(video: int, **changes: object) -> Row:
    row: Row = dict.fromkeys(VIDEO_COLUMNS, 0)
    row |= {"video_id": video, "author_id": 100 + video, "video_type": "NORMAL", "upload_dt": "2022-04-10"}
    return row | {"video_duration": "20000.0", "tag": "39,7", "music_type": "9.0"} | changes


def default_log() -> list[Row]:
    """Ten minutes of two users and three videos."""
    return [log_row(user=m % 2, video=m % 3, minute=m) for m in range(10)]


def write_csv(path: Path, columns: list[str], rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def write_kuairand(
    folder: Path,
    log: list[Row] | None = None,
    *,
    second: list[Row] | None = None,
    users: list[Row] | None = None,
    videos: list[Row] | None = None,
) -> Path:
    """The archive as it unpacks: `folder/data/*.csv`. Returns `folder`."""
    data = folder / "data"
    write_csv(data / FIRST_LOG, LOG_COLUMNS, default_log() if log is None else log)
    if second is not None:
        write_csv(data / SECOND_LOG, LOG_COLUMNS, second)
    write_csv(data / USERS, USER_COLUMNS, [user_row(u) for u in range(2)] if users is None else users)
    write_csv(data / VIDEOS, VIDEO_COLUMNS, [video_row(v) for v in range(3)] if videos is None else videos)
    return folder


def release(folder: Path, logs: dict[str, list[Row]], suffix: str, videos: int = 3) -> Path:
    """An archive as it unpacks, files that must not be read included. Returns `folder`."""
    data = folder / "data"
    for name, rows in logs.items():
        write_csv(data / f"{name}.csv", LOG_COLUMNS, rows)
    write_csv(data / f"user_features_{suffix}.csv", USER_COLUMNS, [user_row(u) for u in range(3)])
    write_csv(
        data / f"video_features_basic_{suffix}.csv", VIDEO_COLUMNS, [video_row(v) for v in range(videos)]
    )
    write_csv(data / f"log_random_4_22_to_5_08_{suffix}.csv", LOG_COLUMNS, [log_row(0, 0, 5, tab=9)])
    parts = [f"_part{n}" for n in (1, 2, 3)] if suffix == "27k" else [""]
    for part in parts:
        write_csv(data / f"video_features_statistic_{suffix}{part}.csv", STATISTIC_COLUMNS, [])
    return folder


def write_1k(folder: Path, log: list[Row] | None = None) -> Path:
    rows = default_log() if log is None else log
    return release(folder, {LOGS_1K[0]: rows, LOGS_1K[1]: [log_row(2, 1, 3_000)]}, "1k")
