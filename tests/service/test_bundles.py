"""Versions while running: promote, activate, roll back, and what a bad bundle can do (nothing)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from prometheus_client import CollectorRegistry

from models.errors import BundleNotFound, CorruptBundle, SelfTestFailed
from models.runtime import GPU_MEMORY_MIB
from models.store import BundleStore
from service.inference.loader import BundleLoader
from service.inference.traffic_sample import TrafficSample
from service.telemetry.bundles import BundleMetrics
from tests.bundle_parts import sha256
from tests.service import tiny_bundle
from tests.service.broken_bundle import BROKEN, DEFECTS, REASON, point_at, write_broken
from tests.service.exchanges import Dialogue, line
from tests.service.memory_store import MemoryStore
from tests.service.running import event, eventually, running, served
from tests.service.tiny_bundle import FIRST, SECOND


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "bundles"
    tiny_bundle.write_root(folder, FIRST, SECOND)
    return folder


@contextmanager
def app(root: Path, tmp_path: Path) -> Iterator[httpx2.Client]:
    with served(root, MemoryStore(), tmp_path / "data") as client:
        yield client


def answers(client: httpx2.Client) -> tuple[str, float]:
    """Version and label of one event: half watched, so 0.5 of the first and 0.375 of the second version."""
    reply = client.post("/label?store=false", json=event()).json()
    return reply["model_version"], reply["labels"][0]["label"]


def reloads(client: httpx2.Client) -> dict[str, float]:
    """By outcome."""
    found = re.findall(
        r'^reelrank_bundle_reloads_total{outcome="(\w+)"} (\S+)$', client.get("/metrics").text, re.MULTILINE
    )
    return {outcome: float(count) for outcome, count in found}


def refused(client: httpx2.Client) -> dict[str, str]:
    """Versions that should be current, and why they are not."""
    pattern = r'^reelrank_bundle_refused{reason="(\w+)",role="current",version="([^"]+)"} 1.0$'
    return {v: reason for reason, v in re.findall(pattern, client.get("/metrics").text, re.MULTILINE)}


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_a_promoted_version_is_taken_without_a_restart(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        assert answers(client) == (FIRST, 0.5)
        BundleStore(root).promote(SECOND)
        assert eventually(lambda: answers(client) == (SECOND, 0.375))
        assert client.get("/v1/models").json()["active"] == SECOND


def test_activate_and_rollback_answer_from_the_version_they_name(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        reply = client.post(f"/v1/models/{SECOND}:activate")
        assert reply.json() == {"model_version": SECOND, "provider": "CPUExecutionProvider"}
        assert answers(client) == (SECOND, 0.375)
        assert BundleStore(root).current() == SECOND
        assert client.post("/v1/models:rollback").json()["model_version"] == FIRST
        assert answers(client) == (FIRST, 0.5)
    with app(root, tmp_path) as client:
        assert answers(client) == (FIRST, 0.5)


def test_going_back_loads_no_bundle_again(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        client.post(f"/v1/models/{SECOND}:activate").raise_for_status()
        assert reloads(client) == {"loaded": 2.0}
        client.post("/v1/models:rollback").raise_for_status()
        client.post(f"/v1/models/{SECOND}:activate").raise_for_status()
        BundleStore(root).rollback()  # by another process
        assert eventually(lambda: answers(client) == (FIRST, 0.5))
        assert reloads(client) == {"loaded": 2.0, "held": 3.0}


def test_activating_the_current_version_does_nothing(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        before = (root / "CURRENT").stat().st_mtime_ns, sorted(path.name for path in root.iterdir())
        reply = client.post(f"/v1/models/{FIRST}:activate")
        assert reply.json() == {"model_version": FIRST, "provider": "CPUExecutionProvider"}
        assert before == (
            (root / "CURRENT").stat().st_mtime_ns,
            sorted(path.name for path in root.iterdir()),
        )
        assert reloads(client) == {"loaded": 1.0}


def test_a_request_in_flight_finishes_on_the_version_it_began_with(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client, contextlib.closing(Dialogue(str(client.base_url))) as stream:
        stream.say(line("e1", "alice") + b"\n")
        assert b" 200 " in stream.headers()
        assert [label["label"] for label in stream.hear()] == [0.5]
        client.post(f"/v1/models/{SECOND}:activate").raise_for_status()
        stream.say(line("e2", "alice") + b"\n")
        assert [label["label"] for label in stream.hear()] == [0.5]
        assert answers(client) == (SECOND, 0.375)
        stream.end()
        assert [summary["model_version"] for summary in stream.hear()] == [FIRST]


@pytest.mark.slow
def test_many_reloads_do_not_add_up_in_memory(root: Path, tmp_path: Path) -> None:
    third = "20260103-00000003"
    tiny_bundle.write(root / third, third)
    with running(root, tmp_path / "data") as service, service.client() as client:

        def reload_all() -> None:
            for version in (SECOND, third, FIRST):  # three, of which two are held: each is read again
                client.post(f"/v1/models/{version}:activate").raise_for_status()

        for _ in range(4):
            reload_all()
        after_12 = resident_mib(service.process.pid)
        for _ in range(14):
            reload_all()
        assert reloads(client) == {"loaded": 55.0}
        assert resident_mib(service.process.pid) - after_12 < 10


def test_there_may_be_nothing_to_go_back_to(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        assert client.post("/v1/models:rollback").status_code == 404
        assert answers(client) == (FIRST, 0.5)


@pytest.mark.parametrize("defect", DEFECTS)
def test_activating_a_bad_bundle_keeps_the_old_one(root: Path, tmp_path: Path, defect: str) -> None:
    write_broken(root, defect)
    with app(root, tmp_path) as client:
        reply = client.post(f"/v1/models/{BROKEN}:activate")
        assert reply.status_code == 409
        assert reply.json()["detail"]
        assert str(root) not in reply.text + client.get("/v1/models").text  # that is for the log
        assert answers(client) == (FIRST, 0.5)
        assert BundleStore(root).current() == FIRST


@pytest.mark.parametrize("defect", DEFECTS)
def test_promoting_a_bad_bundle_keeps_the_old_one_and_counts(root: Path, tmp_path: Path, defect: str) -> None:
    with app(root, tmp_path) as client:
        write_broken(root, defect)
        point_at(root, BROKEN + "\n")
        assert eventually(lambda: reloads(client) == {"loaded": 1.0, "failed": 1.0})
        assert refused(client) == {BROKEN: REASON[defect]}
        assert [r["version"] for r in client.get("/v1/models").json()["refused"]] == [BROKEN]
        assert answers(client) == (FIRST, 0.5)
        assert client.get("/health/ready").json()["model_version"] == FIRST
        BundleStore(root).promote(SECOND)
        assert eventually(lambda: answers(client) == (SECOND, 0.375))
        assert refused(client) == {}


def test_a_bad_bundle_that_is_not_wanted_any_more_is_not_refused_any_more(root: Path, tmp_path: Path) -> None:
    write_broken(root, "truncated")
    with app(root, tmp_path) as client:
        point_at(root, BROKEN + "\n")
        assert eventually(lambda: refused(client) == {BROKEN: "corrupt_bundle"})
        point_at(root, FIRST + "\n")
        assert eventually(lambda: refused(client) == {})
        point_at(root, BROKEN + "\n")  # another promote is another look
        assert eventually(lambda: refused(client) == {BROKEN: "corrupt_bundle"})
        assert answers(client) == (FIRST, 0.5)


def test_a_spoilt_current_keeps_the_old_bundle(root: Path, tmp_path: Path) -> None:
    with app(root, tmp_path) as client:
        for spoilt in ("", "../../etc\n", "20990101-00000000\n"):
            (root / "CURRENT").write_text(spoilt)
            assert not eventually(lambda: answers(client) != (FIRST, 0.5), seconds=0.2)
        (root / "CURRENT").write_text(SECOND + "\n")
        assert eventually(lambda: answers(client) == (SECOND, 0.375))


def test_models_tells_what_there_is(root: Path, tmp_path: Path) -> None:
    write_broken(root, "truncated")
    with app(root, tmp_path) as client:
        reply = client.get("/v1/models").json()
    assert (reply["active"], reply["provider"]) == (FIRST, "CPUExecutionProvider")
    assert [(m["version"], m["active"]) for m in reply["models"]] == [
        (FIRST, True),
        (SECOND, False),
        (BROKEN, False),
    ]
    first, _, third = reply["models"]
    assert first["files"]["ranker.onnx"] == sha256(root / FIRST / "ranker.onnx")
    assert first["labels"] == ["labelcraft", "pcr"]
    assert "sha256" in third["error"]


def test_without_a_version_the_service_waits_for_one(root: Path, tmp_path: Path) -> None:
    (root / "CURRENT").unlink()
    with app(root, tmp_path) as client:
        for path in ("/label", "/rerank"):
            reply = client.post(path, json=event())
            assert (reply.status_code, "retry-after" in reply.headers) == (503, True)
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200
        BundleStore(root).promote(FIRST)
        assert eventually(lambda: client.get("/health/ready").status_code == 200)
        assert answers(client) == (FIRST, 0.5)


def test_one_versions_folder_is_served_and_stays(root: Path, tmp_path: Path) -> None:
    with app(root / SECOND, tmp_path) as client:
        assert answers(client) == (SECOND, 0.375)
        assert [m["version"] for m in client.get("/v1/models").json()["models"]] == [SECOND]
        assert client.post(f"/v1/models/{FIRST}:activate").status_code == 409
        assert client.post("/v1/models:rollback").status_code == 409


def test_a_bundle_that_is_bad_at_the_start_ends_the_start(root: Path, tmp_path: Path) -> None:
    write_broken(root, "truncated")
    with pytest.raises(CorruptBundle), app(root / BROKEN, tmp_path):
        pass
    with pytest.raises(BundleNotFound), app(root / "nowhere", tmp_path):
        pass


def test_a_folder_without_any_version_ends_the_start(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleNotFound, match="empty holds no version"), app(tmp_path / "empty", tmp_path):
        pass


def test_a_graph_that_does_not_end_is_given_up(tmp_path: Path) -> None:
    path = tiny_bundle.write(tmp_path / BROKEN, BROKEN, twist="endless")
    metrics = BundleMetrics(CollectorRegistry())
    loader = BundleLoader("cpu", GPU_MEMORY_MIB, TrafficSample(tmp_path / "r"), metrics, limit_s=0.3)
    with pytest.raises(SelfTestFailed, match=r"was not loaded and tested within 0\.3 s"):
        asyncio.run(loader.load(path))
    assert eventually(lambda: not loading())


@pytest.mark.parametrize("by", ["activate", "promote"])
def test_a_graph_that_does_not_end_does_not_keep_the_process(root: Path, tmp_path: Path, by: str) -> None:
    tiny_bundle.write(root / BROKEN, BROKEN, twist="endless")
    with (
        ThreadPoolExecutor() as caller,
        served(root, MemoryStore(), tmp_path / "data", grace_s=0.5) as client,
    ):
        if by == "activate":
            caller.submit(client.post, f"/v1/models/{BROKEN}:activate")
        else:
            BundleStore(root).promote(BROKEN)
        assert eventually(loading)
        assert answers(client) == (FIRST, 0.5)
    assert eventually(lambda: not loading())


def loading() -> bool:
    return any(thread.name == "loader" for thread in threading.enumerate())
