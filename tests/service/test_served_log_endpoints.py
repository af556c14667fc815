"""What the served log has of a user, and the reports beside it, can be read while the service runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx2
import msgspec
import pytest

from models.experiment_report import ExperimentReport
from models.served_log import LoggedEvent
from service.http.openapi.operations import REPORTS
from service.served_log.recent import CHUNK_BYTES, recent_events
from service.served_log.reports import newest_reports
from tests.service import tiny_bundle
from tests.service.memory_store import MemoryStore
from tests.service.running import NOW_MS, event, served


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx2.Client]:
    tiny_bundle.write_root(tmp_path / "bundles", tiny_bundle.FIRST)
    log = {"log_dir": tmp_path / "log"}
    with served(tmp_path / "bundles", MemoryStore(), tmp_path / "data", **log) as http:
        yield http


def test_the_log_has_each_version_and_repetition_of_a_users_events(client: httpx2.Client) -> None:
    first = event("e1", 'a"nn')
    for body in (first, first, first | {"like": True}, event("e2", "bob", session_id='"user_id":"a\\"nn"')):
        client.post("/label", json=[body]).raise_for_status()
    found = client.get("/v1/events", params={"user_id": 'a"nn'}).raise_for_status().json()
    assert [line["outcome"] for line in found] == ["merged", "duplicate", "accepted"]
    assert {(line["user_id"], line["event_id"]) for line in found} == {('a"nn', "e1")}
    (newest,) = client.get("/v1/events", params={"user_id": 'a"nn', "limit": 1}).json()
    assert newest["logged_at_ms"] > NOW_MS
    assert client.get("/v1/events", params={"user_id": "a"}).json() == []


@pytest.mark.parametrize(
    "params", [{}, {"user_id": ""}, {"user_id": "u", "limit": 0}, {"user_id": "u", "limit": "x"}]
)
def test_other_questions_are_explained(client: httpx2.Client, params: dict[str, str | int]) -> None:
    reply = client.get("/v1/events", params=params)
    assert reply.status_code == 422
    assert reply.json()["errors"][0]["loc"] in {"user_id", "limit"}


def test_no_line_of_a_large_file_is_missed(tmp_path: Path) -> None:
    """Lines that lie across the parts in which a file is read, too."""
    lines = [
        LoggedEvent(
            event_id=str(number),
            user_id=f"u{number % 3}",
            video_id="v" * (number % 200 + 1),
            timestamp_ms=NOW_MS,
            watch_time_s=1.0,
            outcome="accepted",
            logged_at_ms=NOW_MS + number,
        )
        for number in range(12_000)
    ]
    content = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    assert len(content) > 2 * CHUNK_BYTES
    (tmp_path / "events-1.ndjson").write_bytes(content + b'{"user_id":"u1"')
    assert recent_events(tmp_path, "u1", 10_000) == lines[1::3][::-1]
    assert recent_events(tmp_path, "u1", 2) == lines[1::3][:-3:-1]


def test_the_newest_report_of_each_experiment_is_shown(tmp_path: Path) -> None:
    content = REPORTS["responses"]["200"]["content"]["application/json"]["example"][0]
    for order, (name, day) in enumerate([("next", "1"), ("likes", "1"), ("next", "2"), ("next", "3")]):
        path = tmp_path / "experiments" / name / day / "report.json"
        path.parent.mkdir(parents=True)
        path.write_bytes(msgspec.json.encode(content | {"name": name, "end_ms": int(day), "commit": "x"}))
        os.utime(path, (order, order))
    (tmp_path / "experiments" / "damaged" / "1").mkdir(parents=True)
    (tmp_path / "experiments" / "damaged" / "1" / "report.json").write_text("{")
    reports = newest_reports(tmp_path)
    assert [(report.name, report.end_ms) for report in reports] == [("next", 3), ("likes", 1)]
    assert reports[0] == msgspec.convert(content | {"end_ms": 3}, ExperimentReport, strict=False)


def test_without_a_log_there_is_nothing(tmp_path: Path) -> None:
    tiny_bundle.write_root(tmp_path / "bundles", tiny_bundle.FIRST)
    with served(tmp_path / "bundles", MemoryStore(), tmp_path / "data") as client:
        assert client.get("/v1/events", params={"user_id": "u"}).json() == []
        assert client.get("/v1/reports").json() == []
