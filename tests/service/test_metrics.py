"""Metrics: documented one by one, bounded in number, and right over workers that come and go."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx2
import pytest

from models.errors import StoreUnavailable
from models.schema import FeedbackEvent
from service.state.protocol import Outcome
from service.telemetry.metrics import Metrics
from tests.architecture.repository import ROOT
from tests.service.memory_store import MemoryStore
from tests.service.running import event, eventually, running, served

SLATE = {"user_id": "u", "candidates": [{"video_id": "v"}]}


class Away(MemoryStore):
    async def record(self, user_id: str, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        raise StoreUnavailable("The store is away.")


def samples(text: str) -> dict[str, float]:
    """Series and value."""
    lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def scraped(client: httpx2.Client) -> dict[str, float]:
    return samples(client.get("/metrics").text)


def families(text: str) -> set[str]:
    """The names in `# TYPE` lines."""
    return set(re.findall(r"^# TYPE (\w+) ", text, re.M))


def test_the_table_in_the_readme_names_every_metric_and_no_other() -> None:
    table = re.findall(
        r"^\| `(reelrank_\w+)(?:\{[^}]*\})?` \|", (ROOT / "service/README.md").read_text(), re.M
    )
    assert len(table) == len(set(table))
    assert set(table) == families(Metrics().render().decode())


def test_the_table_in_the_readme_names_the_labels_of_every_metric() -> None:
    table = re.findall(
        r"^\| `(reelrank_\w+)(?:\{([^}]*)\})?` \|", (ROOT / "service/README.md").read_text(), re.M
    )
    documented = {name: {label for label in labels.split(", ") if label} for name, labels in table}
    defined: dict[str, set[str]] = {"reelrank_drift_psi": {"what"}}
    for metric in vars(Metrics()).values():
        for part in (metric, *vars(metric).values()) if hasattr(metric, "__dict__") else ():
            if hasattr(part, "_labelnames"):
                name = part._name + ("_total" if part._type == "counter" else "")
                defined[name] = set(part._labelnames)
    defined.pop("reelrank_drift_window")
    assert documented == defined


def test_what_was_refused_is_counted_by_route_and_reason(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, Away(), tmp_path, max_body_bytes=1000) as client:
        client.post("/label", content=b"{", headers={"content-type": "application/json"})
        client.post("/label", content=b"{}", headers={"content-type": "text/plain"})
        client.post("/label", json=event())
        client.post("/label", json=event(duration_s=-1))
        client.post("/rerank", json={"user_id": "u", "candidates": []})
        client.post("/rerank", json={"user_id": "u" * 2000, "candidates": []})
        client.post("/rerank", json=SLATE, headers={"x-deadline-ms": "0.0001"})
        client.get("/users/unknown/sequence")
        client.get("/nothing")
        lines = "\n".join(json_line(i) for i in range(3))
        client.post("/label", content=lines, headers={"content-type": "application/x-ndjson"})
        found = scraped(client)
    for route, reason, count in (
        ("/label", "not_json", 1),
        ("/label", "wrong_content_type", 1),
        ("/label", "store_unavailable", 2),
        ("/label", "nothing_accepted", 1),
        ("/rerank", "invalid", 1),
        ("/rerank", "body_too_large", 1),
        ("/rerank", "deadline_exceeded", 1),
        ("/users/{user_id}/sequence", "unknown_user", 1),
        ("unmatched", "not_found", 1),
    ):
        assert found[f'reelrank_refusals_total{{reason="{reason}",route="{route}"}}'] == count


def json_line(number: int) -> str:
    return httpx2.Request("POST", "http://x", json=event(f"e{number}")).content.decode()


def test_the_load_is_told_from_the_first_scrape(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who scales by it does not want to wait for a series."""
    monkeypatch.setattr("service.overload.event_loop_lag.REPORT_TICKS", 10**9)
    with served(bundles, MemoryStore(), tmp_path) as client:
        assert 'reelrank_in_flight{what="candidates"}' in client.get("/metrics").text


def test_series_do_not_grow_with_what_callers_write(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path) as client:

        def strange(number: int) -> None:
            client.get(f"/users/user{number}/sequence")
            client.request(f"METHOD{number}", f"/path/{number}")
            client.get("/v1/models", headers={"x-request-id": f"id-{number}"})
            client.post(f"/v1/models/2026010{number}-00000009:activate")
            client.post(f"/label?labels=label{number}", json=event(f"e{number}", f"user{number}"))

        strange(0)
        client.get("/metrics")
        before = set(scraped(client))
        for number in range(1, 9):
            strange(number)
        assert set(scraped(client)) == before


def test_each_call_of_the_store_is_timed_by_operation(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path) as client:
        before = scraped(client)  # the start has asked it already
        client.post("/label", json=event()).raise_for_status()
        client.post("/rerank", json=SLATE | {"user_id": "alice"}).raise_for_status()
        client.delete("/users/alice").raise_for_status()
        client.get("/health/ready").raise_for_status()
        found = scraped(client)
    for operation in ("record", "history", "forget", "ping"):
        name = f'reelrank_store_seconds_count{{operation="{operation}"}}'
        assert found[name] - before.get(name, 0) == 1
    assert found['reelrank_store_seconds_count{operation="videos_since"}'] >= 1


def test_a_call_of_the_store_that_fails_is_timed_too(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, Away(), tmp_path) as client:
        name = 'reelrank_store_seconds_count{operation="record"}'
        before = scraped(client).get(name, 0)  # the start has asked it already
        assert client.post("/label", json=event()).status_code == 503
        assert scraped(client)[name] - before == 1


def test_requests_in_flight_are_those_that_have_not_ended(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path) as client:
        assert scraped(client)["reelrank_requests_in_flight"] == 1  # this one
        url = client.base_url
        with socket.create_connection((url.host, url.port or 0)) as stream:
            head = "POST /label HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n"
            stream.sendall(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
            assert eventually(lambda: scraped(client)["reelrank_requests_in_flight"] == 2)
        assert eventually(lambda: scraped(client)["reelrank_requests_in_flight"] == 1)


def test_a_loop_that_was_held_up_is_seen(bundles: Path, tmp_path: Path) -> None:
    class Blocking(MemoryStore):
        async def forget(self, user_id: str) -> bool:
            time.sleep(0.4)  # what no store should do
            return True

    with served(bundles, Blocking(), tmp_path) as client:
        client.delete("/users/u").raise_for_status()
        assert eventually(lambda: 0.3 <= scraped(client)["reelrank_loop_lag_seconds"] < 5)


def workers_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if not children.exists():
        pytest.skip("needs /proc with CONFIG_PROC_CHILDREN")
    found = []
    for child in children.read_text().split():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found


@pytest.mark.xdist_group("processes")
@pytest.mark.slow
def test_counts_only_grow_when_a_worker_is_killed_and_its_gauges_go(bundles: Path, tmp_path: Path) -> None:
    with running(bundles, tmp_path, "--workers", "2") as service:

        def scrape() -> dict[str, float]:
            with service.client() as client:
                return scraped(client)

        def work(requests: int) -> None:
            for _ in range(requests):  # a connection each, so that both get some
                with service.client() as client:
                    client.post("/rerank", json=SLATE).raise_for_status()

        assert scrape()["reelrank_workers"] == 2
        work(6)
        before = scrape()
        growing = {name for name in before if re.search(r"_(total|count|bucket|sum)(\{|$)", name)}
        assert len(growing) > 20
        assert before["reelrank_candidates_total"] == 6
        folder = next(tmp_path.glob("metrics-*"))
        files = sorted(path.name for path in folder.iterdir())
        first, second = workers_of(service.process.pid)
        os.kill(first, signal.SIGKILL)

        def replaced() -> bool:
            pids = workers_of(service.process.pid)
            return len(pids) == 2 and first not in pids and second in pids

        assert eventually(replaced, 30)
        assert eventually(lambda: scrape()["reelrank_workers"] == 2, 30)
        work(6)
        after = scrape()
        assert not {name: (before[name], after.get(name)) for name in growing if before[name] > after[name]}
        assert after["reelrank_candidates_total"] == 12
        assert after["reelrank_requests_in_flight"] == 1
        assert sorted(path.name for path in folder.iterdir()) == files  # no heap of dead workers' files


@pytest.fixture
def one(bundles: Path, tmp_path: Path) -> Iterator[httpx2.Client]:
    with served(bundles, MemoryStore(), tmp_path) as client:
        yield client


def test_processor_time_and_memory_are_the_process_own(one: httpx2.Client) -> None:
    before = scraped(one)
    used = os.times()
    assert before["reelrank_process_cpu_seconds_total"] == pytest.approx(
        used.user + used.system, rel=0.2, abs=1
    )
    assert 2**24 < before["reelrank_process_resident_bytes"] < 2**35
    assert sum(value for name, value in before.items() if name.startswith("reelrank_build_info")) == 1
