"""`python -m service replay` and `demo`, against the running service."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx2
import polars
import pytest

from models.schema import FLAGS
from service.client import Retries
from tests.service.command_line import invoke, refusal
from tests.service.running import Service, event

LINES = 25


def log(user: str, path: Path, lines: int = LINES) -> Path:
    events = [event(f"{user}-{i}", user, timestamp_ms=1000 + i) for i in range(lines)]
    path.write_text("".join(json.dumps(e) + "\n" for e in events))
    return path


def stored(client: httpx2.Client, user: str) -> int:
    reply = client.get(f"/users/{user}/sequence")
    return len(reply.json()["events"]) if reply.status_code == 200 else 0


def test_replaying_twice_is_replaying_once(
    service: Service, client: httpx2.Client, user: str, tmp_path: Path
) -> None:
    args = ("replay", log(user, tmp_path / "log.ndjson"), "--url", service.url, "--batch", "10")
    first, second = invoke(*args), invoke(*args)
    assert first.code == second.code == 0, first.err
    assert "25 accepted, 0 duplicates" in first.out
    assert "0 accepted, 25 duplicates" in second.out
    assert stored(client, user) == LINES


def test_it_goes_on_from_where_it_was(
    service: Service, client: httpx2.Client, user: str, tmp_path: Path
) -> None:
    file, progress = log(user, tmp_path / "log.ndjson"), tmp_path / "progress"
    progress.write_text(json.dumps({"source": str(file), "events": 20}))
    args = ("replay", file, "--url", service.url, "--progress", progress)
    assert "5 accepted" in invoke(*args).out
    assert json.loads(progress.read_text())["events"] == LINES
    assert invoke(*args).out.startswith("0 events")
    assert stored(client, user) == 5
    progress.write_text(json.dumps({"source": "another", "events": 20}))
    ended = invoke(*args)
    assert (ended.code, "another" in ended.err) == (2, True)


def test_standard_input_bad_lines_and_a_rate(service: Service, client: httpx2.Client, user: str) -> None:
    good = json.dumps(event(f"{user}-1", user)).encode()
    bad = json.dumps(event(f"{user}-2", user, watch_time_s=-1)).encode()
    ended = invoke(
        "replay", "-", "--url", service.url, "--rate", "1000", stdin=b"\n".join([good, b"nope", b"", bad])
    )
    assert ended.code == 0, ended.err
    assert "1 accepted, 0 duplicates, 0 merged, 2 rejected" in ended.out
    assert stored(client, user) == 1


def test_parquet_as_prepare_writes_it(
    service: Service, client: httpx2.Client, user: str, tmp_path: Path
) -> None:
    columns = {
        "user_id": [user, user],
        "video_id": ["v1", "v2"],
        "timestamp_ms": [2000, 1000],
        "watch_time_s": [1.0, 2.0],
        "duration_s": [10.0, 10.0],
        **{flag: [True, False] for flag in FLAGS},
        "tab": ["1", None],
    }
    file = tmp_path / "interactions.parquet"
    polars.DataFrame(columns).write_parquet(file)
    args = ("replay", file, "--url", service.url)
    assert "2 accepted" in invoke(*args).out
    assert "2 duplicates" in invoke(*args).out
    events = client.get(f"/users/{user}/sequence").json()["events"]
    assert [e["video_id"] for e in events] == ["v2", "v1"]
    assert events[0]["event_id"] == f"{user}:v2:1000"


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["/nowhere.ndjson"], "/nowhere.ndjson"),
        (["bad.parquet"], "bad.parquet"),
        (["log.ndjson", "--url", "http://127.0.0.1:1", "--batch", "5"], "127.0.0.1:1"),
    ],
)
def test_what_cannot_be_replayed_is_said_in_one_line(
    tmp_path: Path, args: list[str], word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log("alice", tmp_path / "log.ndjson", 3)
    monkeypatch.setattr("service.commands.replay.RETRIES", Retries(tries=1))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.parquet").write_bytes(b"junk")
    ended = invoke("replay", *args)
    (reason,) = [line for line in ended.err.splitlines() if line.startswith("reelrank: ")]  # besides a bar
    assert (ended.code, word in reason, "Traceback" in ended.err) == (2, True, False), ended.err


def test_demo_shows_labels_and_a_slate_before_and_after(service: Service, tmp_path: Path) -> None:
    ended = invoke("demo", "--url", service.url)
    assert ended.code == 0, ended.err
    assert [ended.out.count(path) for path in ("POST /rerank", "POST /label")] == [2, 1]
    assert re.search(r"history 0 → 12\s+exposures", ended.out)
    assert "127.0.0.1:1" in refusal("demo", "--url", "http://127.0.0.1:1", data_dir=tmp_path)
