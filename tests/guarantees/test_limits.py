"""Promises about load, ends and hostile input."""

from __future__ import annotations

import json
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.service import tiny_bundle
from tests.service.bodies import BODIES
from tests.service.exchanges import Dialogue, is_problem, line
from tests.service.running import event, eventually, running
from tests.service.tiny_bundle import FIRST, SECOND

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

SLATE = {"user_id": "alice", "candidates": [{"video_id": f"v{i}", "duration_s": 20.0} for i in range(1000)]}

DEADLINE_MS = 150


def test_08_no_request_is_answered_long_after_its_deadline_and_none_is_left_waiting(
    bundles: Path, tmp_path: Path
) -> None:
    with running(bundles, tmp_path) as service, service.client() as client:
        nothing_left = client.post("/rerank", json=SLATE, headers={"x-deadline-ms": "0.001"})
        assert is_problem(nothing_left, 429)
        assert "retry-after" in nothing_left.headers

        def ask(_: int) -> httpx2.Response:
            return client.post("/rerank", json=SLATE, headers={"x-deadline-ms": str(DEADLINE_MS)})

        with ThreadPoolExecutor(24) as pool:  # far more at once than one worker can do in that time
            replies = list(pool.map(ask, range(240)))
        assert {reply.status_code for reply in replies} <= {200, 429, 503}
        for reply in replies:
            if reply.status_code == 200:
                assert reply.json()["took_ms"] < 2 * DEADLINE_MS  # it ends between two looks at the clock
            else:
                assert "retry-after" in reply.headers
        assert eventually(lambda: ask(0).status_code == 200), "the queue did not drain"


def test_09_sigterm_is_not_ready_at_once_then_requests_in_flight_finish_and_it_ends_in_time(
    bundles: Path, tmp_path: Path
) -> None:
    env = {"REELRANK_DRAIN_S": "3", "REELRANK_GRACE_S": "20"}
    with running(bundles, tmp_path, **env) as service, service.client() as client:
        client.get("/health/ready").raise_for_status()
        stream = Dialogue(service.url)
        stream.say(line("s1", "alice") + b"\n")
        stream.headers()
        assert stream.hear()[0]["event_id"] == "s1"
        statuses: list[int] = []

        def ask(number: int) -> None:
            events = [event(f"{number}-{i}", f"u{number}") for i in range(200)]
            with service.client() as own:
                statuses.append(own.post("/label", json=events, timeout=30).status_code)

        asking = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in asking:
            thread.start()
        service.process.send_signal(signal.SIGTERM)
        (summary,) = stream.hear()
        assert (summary["status"], summary["accepted"]) == ("shutting_down", 1)
        assert stream.hear() == []
        stream.close()
        assert client.get("/health/ready").status_code == 503
        assert client.post("/rerank", json=SLATE, headers={"x-deadline-ms": "9000"}).status_code == 200
        assert service.process.wait(3 + 20) == 0
        for thread in asking:
            thread.join()
    assert statuses == [200] * 4


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("needs /proc")
    (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", status.read_text())
    return int(kib) / 1024


def test_10_memory_is_bounded_over_traffic_and_reloads(tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    tiny_bundle.write_root(root, FIRST, SECOND)
    with running(root, tmp_path / "data") as service, service.client() as client:

        def live(rounds: int, first: int) -> float:
            for number in range(first, first + rounds):
                client.post(f"/v1/models/{(SECOND, FIRST)[number % 2]}:activate").raise_for_status()
                for part in range(2):
                    events = [event(f"{number}-{part}-{i}", f"u{i}", watch_time_s=1.0) for i in range(100)]
                    client.post("/label", json=events).raise_for_status()
                    client.post("/rerank", json=SLATE, headers={"x-deadline-ms": "20000"}).raise_for_status()
                    client.post(
                        "/label", content=b"[{}," * 1000, headers={"content-type": "application/json"}
                    )
            return resident_mib(service.process.pid)

        before = live(8, 0)
        after = live(24, 8)
    assert after - before < 12, f"{before:.0f} MiB, and {after:.0f} MiB 24 reloads later"


KINDS = st.sampled_from(
    ["application/json", "application/x-ndjson", "text/plain", "application/octet-stream", ""]
)


def test_12_every_error_is_a_problem_document_and_no_bytes_make_a_500(pair: httpx2.Client) -> None:
    paths = pair.get("/openapi.json").json()["paths"]
    operations = [
        (method.upper(), path) for path, item in paths.items() for method in item if "/v2" not in path
    ]
    counts: dict[int, int] = {}

    @settings(max_examples=400, deadline=None, derandomize=True)
    @given(
        operation=st.sampled_from(sorted(operations)),
        wrong=st.sampled_from(["", "GET", "PUT", "POST", "DELETE", "PATCH"]),
        fill=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
        query=st.sampled_from(["", "?labels=nope", "?explain=2", "?store=maybe", "?x=%ff"]),
        kind=KINDS,
        body=BODIES,
    )
    def holds(operation: tuple[str, str], wrong: str, fill: str, query: str, kind: str, body: bytes) -> None:
        method, path = operation
        segment = "".join(f"%{byte:02x}" for byte in fill.encode())
        target = re.sub(r"\{[^}]*\}", lambda _: segment, path) + query
        headers = {"content-type": kind, "x-deadline-ms": "20000"}
        reply = pair.request(wrong or method, target, content=body, headers=headers)
        counts[reply.status_code] = counts.get(reply.status_code, 0) + 1
        assert reply.status_code < 500
        if reply.status_code >= 400:
            assert is_problem(reply, reply.status_code)
        elif reply.headers["content-type"] == "application/json":
            json.loads(reply.content)

    holds()
    assert {200, 404, 405, 415} <= set(counts), counts
