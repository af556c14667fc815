"""`python -m service replay` and `demo`, against the running service."""

from __future__ import annotations

import codecs
import json
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import polars
import pytest

from models.schema import FLAGS
from service.client import Retries
from service.commands.replay import REASONS
from tests.service.command_line import invoke, refusal
from tests.service.running import NOW_MS, Service, event

LINES = 25


def log(user: str, path: Path, lines: int = LINES) -> Path:
    events = [event(f"{user}-{i}", user, timestamp_ms=NOW_MS + i) for i in range(lines)]
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


def test_what_is_rejected_is_named_with_its_line_and_ends_with_code_1(
    service: Service, client: httpx2.Client, user: str
) -> None:
    good = json.dumps(event(f"{user}-1", user)).encode()
    bad = json.dumps(event(f"{user}-2", user, watch_time_s=-1)).encode()
    lines = b"\n".join([good, b"nope", b"", bad, *[b"a,b"] * 10])
    ended = invoke("replay", "-", "--url", service.url, "--rate", "1000", stdin=lines)
    assert ended.code == 1
    assert "1 accepted, 0 duplicates, 0 merged, 12 rejected" in ended.out
    assert "line 2: malformed: 'nope' is not JSON." in ended.err
    assert "line 4: invalid: `watch_time_s` must be 0 to 604800 s" in ended.err
    assert "rejected: 11 malformed, 1 invalid" in ended.err
    assert ended.err.count("line ") == REASONS
    assert stored(client, user) == 1


WRITTEN = datetime.fromtimestamp(NOW_MS // 1000, UTC)
CSV = """user_id,video_id,timestamp_ms,watch_time_s,duration_s,like,hate,tab,comment_count
{user},v1,{now},12.5,24,1,False,,3
"{user}", "v2",{written},1,2,0,,"home, again",
"""


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_files_of_other_writers_are_read_too(
    service: Service, client: httpx2.Client, user: str, tmp_path: Path, kind: str, mark: bytes
) -> None:
    times = (NOW_MS, f"{WRITTEN:%Y-%m-%dT%H:%M:%S}")
    text = CSV.format(user=user, now=times[0], written=times[1])
    if kind == "ndjson":
        text = "".join(json.dumps(event(f"{user}-{t}", user, timestamp_ms=t)) + "\r\n" for t in times)
    file = tmp_path / f"log.{kind}"
    file.write_bytes(mark + text.encode())
    ended = invoke("replay", file, "--url", service.url)
    assert (ended.code, "2 accepted" in ended.out) == (0, True), ended.err
    events = client.get(f"/users/{user}/sequence").json()["events"]
    assert [e["timestamp_ms"] for e in events] == [NOW_MS // 1000 * 1000, NOW_MS]
    if kind == "csv":
        assert events[0]["tab"] == "home, again"
        assert (events[1]["watch_time_s"], events[1]["like"]) == (12.5, True)


@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Shanghai"])
def test_a_column_of_datetimes_is_read(
    service: Service, client: httpx2.Client, user: str, tmp_path: Path, zone: str | None
) -> None:
    file = tmp_path / "log.parquet"
    row = {"user_id": user, "video_id": "v", "timestamp_ms": WRITTEN, "watch_time_s": 1.0, "duration_s": 2.0}
    column = polars.col("timestamp_ms")
    moved = column.dt.replace_time_zone(None) if zone is None else column.dt.convert_time_zone(zone)
    polars.DataFrame([row]).with_columns(moved).write_parquet(file)
    assert invoke("replay", file, "--url", service.url).code == 0
    (exposure,) = client.get(f"/users/{user}/sequence").json()["events"]
    assert exposure["timestamp_ms"] == NOW_MS // 1000 * 1000


def test_parquet_as_prepare_writes_it(
    service: Service, client: httpx2.Client, user: str, tmp_path: Path
) -> None:
    columns = {
        "user_id": [user, user],
        "video_id": ["v1", "v2"],
        "timestamp_ms": [NOW_MS + 1, NOW_MS],
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
    assert events[0]["event_id"] == f"{user}:v2:{NOW_MS}"


def test_signals_that_the_log_declares_are_sent(service: Service, user: str, tmp_path: Path) -> None:
    row = {"user_id": user, "video_id": "v", "timestamp_ms": NOW_MS, "watch_time_s": 1.0, "duration_s": 2.0}
    table = polars.DataFrame([row | {"faved": False}, row | {"timestamp_ms": NOW_MS + 1, "faved": True}])
    table.write_parquet(tmp_path / "interactions.parquet")
    (tmp_path / "dataset.json").write_text('{"signals": {"positive": ["faved"]}}')
    ended = invoke("replay", tmp_path / "interactions.parquet", "--url", service.url)
    assert "1 accepted" in ended.out
    assert "There is no signal 'faved'; this bundle has none." in ended.err


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["/nowhere.ndjson"], "/nowhere.ndjson"),
        (["bad.parquet"], "bad.parquet"),
        (["bad.csv"], "duration_s"),
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
    (tmp_path / "bad.csv").write_text("user_id,video_id,timestamp_ms,watch_time_s\n")
    ended = invoke("replay", *args)
    (reason,) = [line for line in ended.err.splitlines() if line.startswith("reelrank: ")]  # besides a bar
    assert (ended.code, word in reason, "Traceback" in ended.err) == (2, True, False), ended.err


def test_demo_shows_labels_and_slates_of_two_users_and_draws_them(service: Service, tmp_path: Path) -> None:
    ended = invoke("demo", "--url", service.url, "--svg", tmp_path / "demo.svg")
    assert ended.code == 0, ended.err
    assert [ended.out.count(path) for path in ("POST /rerank", "POST /label")] == [1, 1]
    assert "history 0 → 11 exposures" in ended.out
    assert "8075929" in (tmp_path / "demo.svg").read_text()
    assert "nowhere" in refusal("demo", "--url", service.url, "--svg", "/nowhere/demo.svg", data_dir=tmp_path)
    assert "127.0.0.1:1" in refusal("demo", "--url", "http://127.0.0.1:1", data_dir=tmp_path)
