"""`python -m service replay` and `demo`, against the running service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import polars
import pytest

from models.schema import FLAGS
from tests.service.running import Service, event

LINES = 25


def run(*args: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "service", *args],
        input=stdin,
        capture_output=True,
        env=os.environ | {"COLUMNS": "120"},
        timeout=60,
        check=False,
    )


def log(user: str, path: Path, lines: int = LINES) -> Path:
    events = [event(f"{user}-{i}", user, timestamp_ms=1000 + i) for i in range(lines)]
    path.write_text("".join(json.dumps(e) + "\n" for e in events))
    return path


def held(client: httpx2.Client, user: str) -> int:
    reply = client.get(f"/users/{user}/sequence")
    return len(reply.json()["events"]) if reply.status_code == 200 else 0


def test_replaying_twice_is_replaying_once(
    service: Service, client: httpx2.Client, user: str, tmp_path: Path
) -> None:
    file = log(user, tmp_path / "log.ndjson")
    args = ("replay", str(file), "--url", service.url, "--batch", "10")
    first, second = run(*args), run(*args)
    assert first.returncode == second.returncode == 0, first.stderr
    assert b"25 accepted, 0 duplicates" in first.stdout
    assert b"0 accepted, 25 duplicates" in second.stdout
    assert held(client, user) == LINES


def test_it_goes_on_from_where_it_was(
    service: Service, client: httpx2.Client, user: str, tmp_path: Path
) -> None:
    file, progress = log(user, tmp_path / "log.ndjson"), tmp_path / "progress"
    progress.write_text(json.dumps({"source": str(file), "events": 20}))
    args = ("replay", str(file), "--url", service.url, "--progress", str(progress))
    assert b"5 accepted" in run(*args).stdout
    assert json.loads(progress.read_text())["events"] == LINES
    assert run(*args).stdout.startswith(b"0 events")
    assert held(client, user) == 5
    progress.write_text(json.dumps({"source": "another", "events": 20}))
    assert run(*args).returncode == 2


def test_standard_input_bad_lines_and_a_rate(service: Service, client: httpx2.Client, user: str) -> None:
    good = json.dumps(event(f"{user}-1", user)).encode()
    bad = json.dumps(event(f"{user}-2", user, watch_time_s=-1)).encode()
    done = run(
        "replay", "-", "--url", service.url, "--rate", "1000", stdin=b"\n".join([good, b"nope", b"", bad])
    )
    assert done.returncode == 0, done.stderr
    assert b"1 accepted, 0 duplicates, 0 merged, 2 rejected" in done.stdout
    assert held(client, user) == 1


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
    done = run("replay", str(file), "--url", service.url)
    assert b"2 accepted" in done.stdout, done.stderr
    assert b"2 duplicates" in run("replay", str(file), "--url", service.url).stdout
    events = client.get(f"/users/{user}/sequence").json()["events"]
    assert [e["video_id"] for e in events] == ["v2", "v1"]
    assert events[0]["event_id"] == f"{user}:v2:1000"


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["/nowhere.ndjson"], b"/nowhere.ndjson"),
        (["bad.parquet"], b"bad.parquet"),
        (["log.ndjson", "--url", "http://127.0.0.1:1", "--batch", "5"], b"127.0.0.1:1"),
    ],
)
def test_what_cannot_be_replayed_is_said_in_one_line(
    tmp_path: Path, args: list[str], named: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    log("nobody", tmp_path / "log.ndjson", 3)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.parquet").write_bytes(b"junk")
    done = run("replay", *args)
    assert done.returncode == 2
    assert named in done.stderr
    assert b"Traceback" not in done.stderr


def test_demo_shows_labels_and_a_slate_before_and_after(service: Service) -> None:
    done = run("demo", "--url", service.url)
    said = done.stdout.decode()
    assert done.returncode == 0, done.stderr
    assert [said.count(path) for path in ("POST /rerank", "POST /label")] == [2, 1]
    assert re.search(r"history 0 → 12\s+exposures", said)
    assert run("demo", "--url", "http://127.0.0.1:1").returncode == 2
