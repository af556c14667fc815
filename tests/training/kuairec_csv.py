"""KuaiRec's files as its authors publish them, from a few rows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tests.training.kuairand_csv import USER_COLUMNS, Row, user_row, write_csv

MATRIX = [
    *("user_id", "video_id", "play_duration", "video_duration", "time", "date", "timestamp", "watch_ratio")
]
DAILY = ["video_id", "date", "author_id", "video_type", "upload_dt", "video_duration", "play_cnt", "like_cnt"]
MORNING_S = 1_593_878_903.438
"""2020-07-05 00:08:23 in China, still 4 July in Greenwich."""


def row(user: int, video: int, minute: float, **changes: object) -> Row:
    """4 s of 10 s, `minute` minutes after the morning."""
    timestamp = round(MORNING_S + 60 * minute, 3)
    local = datetime.fromtimestamp(timestamp + 8 * 3_600, tz=UTC)
    play, duration = changes.get("play_duration", 4_000), changes.get("video_duration", 10_000)
    assert isinstance(play, int | str)
    columns: Row = {
        "user_id": user,
        "video_id": video,
        "play_duration": play,
        "video_duration": duration,
        "time": f"{local:%Y-%m-%d %H:%M:%S.%f}"[:-3],
        "date": f"{local:%Y%m%d}",
        "timestamp": timestamp,
        "watch_ratio": 0.4,
    }
    return columns | changes


def big() -> list[Row]:
    return [row(m % 2, m % 3, m) for m in range(8)]


def small() -> list[Row]:
    """One row lacks its time, as some do, which makes the dates of the file decimals."""
    rows = [row(0, v, 30 + v) | {"date": "20200705.0"} for v in range(3)]
    return [*rows, row(1, 0, 0) | {"time": "", "date": "", "timestamp": ""}]


def write(folder: Path, *, big: list[Row] | None = None, small: list[Row] | None = None) -> Path:
    """The archive as it unpacks, with every table: `folder/data/*.csv`. Returns `folder`."""
    data = folder / "data"
    for name, rows in (("big_matrix", big), ("small_matrix", small)):
        if rows is not None:
            write_csv(data / f"{name}.csv", MATRIX, rows)
    feats = ["[8]", "[27, 9]", "[9]"]
    write_csv(
        data / "item_categories.csv",
        ["video_id", "feat"],
        [{"video_id": v, "feat": f} for v, f in enumerate(feats)],
    )
    write_csv(data / "user_features.csv", USER_COLUMNS, [user_row(u, onehot_feat4="2.0") for u in range(2)])
    daily: list[Row] = [
        dict.fromkeys(DAILY, 0)
        | {"video_id": v, "date": date, "author_id": 50 + v, "video_type": "AD" if v == 2 else "NORMAL"}
        for v in range(3)
        for date in (20200705, 20200706)
    ]
    write_csv(data / "item_daily_features.csv", DAILY, daily)
    return folder
