"""`prepare --forget`: nothing is learned from what unlearning ledgers name."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from models.errors import BadInput
from tests.conftest import cli, cli_ok
from tests.training.kuairand_csv import write_kuairand
from training.data import SyntheticConfig, load, prepare, read_ledgers, without


def small(folder: Path) -> Path:
    path = folder / "small.json"
    path.write_text(SyntheticConfig(users=20, videos=30, exposures=300).model_dump_json())
    return path


def ledger(path: Path, *users: str) -> Path:
    path.write_text("".join(json.dumps({"user_id": u, "forgotten_at_ms": 1}) + "\n" for u in users))
    return path


def test_forgotten_users_are_in_no_table_and_the_note_counts_what_is_left(tmp_path: Path) -> None:
    config = small(tmp_path)
    whole = load(prepare("synthetic", config, tmp_path / "whole", progress=False).out)
    first, second, *_ = sorted(whole.log["user_id"].unique())
    ledgers = [ledger(tmp_path / "a", first, "a stranger"), ledger(tmp_path / "b", second, first)]
    summary = prepare("synthetic", config, tmp_path / "left", forget=ledgers, progress=False)
    left = load(summary.out)
    gone = pl.col("user_id").is_in([first, second])
    assert left.log.equals(whole.log.filter(~gone))
    assert left.tables.users.equals(whole.tables.users.filter(~gone))
    assert left.tables.videos.equals(whole.tables.videos)
    dropped = len(whole.log.filter(gone))
    assert dropped > 0
    assert summary.info.rows.dropped == {"forgotten": dropped}
    assert summary.info.rows.read == summary.info.rows.kept + dropped
    assert summary.info.users == left.log["user_id"].n_unique()
    assert (summary.info.first_timestamp_ms, summary.info.last_timestamp_ms) == (
        left.log["timestamp_ms"].min(),
        left.log["timestamp_ms"].max(),
    )


def test_a_note_that_leaves_no_user_out_is_recounted_to_the_same(tmp_path: Path) -> None:
    config = small(tmp_path)
    plain = prepare("synthetic", config, tmp_path / "plain", progress=False).info
    stranger = ledger(tmp_path / "ledger", "a stranger")
    recounted = prepare("synthetic", config, tmp_path / "out", forget=[stranger], progress=False).info
    assert recounted.rows.dropped == {"forgotten": 0}
    assert recounted.forgotten_until_ms == 1
    assert recounted.model_copy(update={"rows": plain.rows, "forgotten_until_ms": None}) == plain


def test_a_log_is_free_of_forgotten_users_up_to_where_all_ledgers_were_read(tmp_path: Path) -> None:
    lines = {"a": [3, 9], "b": [5], "empty": []}
    for name, times in lines.items():
        entries = [{"user_id": f"{name}{at}", "forgotten_at_ms": at} for at in times]
        (tmp_path / name).write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    ledgers = [tmp_path / name for name in lines]
    out = prepare("synthetic", small(tmp_path), tmp_path / "out", forget=ledgers, progress=False).out
    assert load(out).info.forgotten_until_ms == 5


def test_a_published_log_and_its_censored_history_are_left_without_them_too(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_kuairand(source)
    before = pl.DataFrame({"user_id": [0, 1], "watch_seq": [[1, 2, 2], [0]], "last_time_ms": [0, 0]})
    before.write_parquet(source / "data" / "user_history_to_4_24_pure.parquet")
    whole = prepare("kuairand-pure", source, tmp_path / "whole", progress=False).out
    user = "0"
    forget = [ledger(tmp_path / "ledger", user)]
    out = prepare("kuairand-pure", source, tmp_path / "left", forget=forget, progress=False).out
    for table in whole.glob("*.parquet"):
        rows = pl.read_parquet(table)
        if "user_id" in rows.columns:
            assert pl.read_parquet(out / table.name).equals(rows.filter(pl.col("user_id") != user)), table
    left = load(out)
    assert left.info.history is not None
    assert (left.info.history.rows, left.info.history.users) == (1, 1)


def test_a_video_an_author_or_one_exposure_leaves_the_rows_that_have_all_of_its_ids(tmp_path: Path) -> None:
    whole = load(prepare("synthetic", small(tmp_path), tmp_path / "whole", progress=False).out)
    row = whole.log.row(7, named=True)
    exposure = ["user_id", "video_id", "timestamp_ms"]
    for columns in (["video_id"], ["author_id"], exposure):
        named = {name: row[name] for name in columns}
        names = tmp_path / "names"
        names.write_text(json.dumps({**named, "forgotten_at_ms": 1}) + "\n")
        has_all = pl.all_horizontal(pl.col(name) == value for name, value in named.items())
        out = tmp_path / "-".join(columns)
        left = load(prepare("synthetic", small(tmp_path), out, forget=[names], progress=False).out)
        assert left.log.equals(whole.log.filter(~has_all))
        assert left.tables.users.equals(whole.tables.users)
        videos = whole.tables.videos
        assert left.tables.videos.equals(videos if columns == exposure else videos.filter(~has_all))
        again = without(whole, read_ledgers([names]))
        assert again.log.equals(left.log)
        assert again.tables.videos.equals(left.tables.videos)
        assert again.info == left.info


def test_a_log_of_forgotten_users_only_and_a_bad_ledger_leave_nothing_behind(tmp_path: Path) -> None:
    config = small(tmp_path)
    users = load(prepare("synthetic", config, tmp_path / "whole", progress=False).out).log["user_id"]
    all_users = ledger(tmp_path / "all_users", *users.unique())
    broken = tmp_path / "broken"
    broken.write_text("{")
    for forget, reason in (
        (all_users, "nothing is left"),
        (broken, "line 1"),
        (tmp_path / "no", "cannot be read"),
    ):
        with pytest.raises(BadInput, match=reason):
            prepare("synthetic", config, tmp_path / "out", forget=[forget], progress=False)
        assert not (tmp_path / "out").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.slow
def test_the_command_takes_several_ledgers(tmp_path: Path) -> None:
    config = small(tmp_path)
    users = sorted(load(prepare("synthetic", config, tmp_path / "whole", progress=False).out).log["user_id"])
    forget = [ledger(tmp_path / "a", users[0]), ledger(tmp_path / "b", users[-1])]
    args = ("prepare", "--dataset", "synthetic", "--source", config, "--out", tmp_path / "out")
    assert "forgotten), 18 users" in cli_ok(*args, "--forget", forget[0], "--forget", forget[1])
    refused = cli(*args[:-1], tmp_path / "again", "--forget", tmp_path / "none")
    assert refused.returncode == 2
    assert "none" in refused.stderr
