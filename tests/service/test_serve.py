"""`python -m service serve`: starting, refusing to start, ending, and coming back."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import httpx2
import pytest

from models.store import BundleStore
from service.state import EmbeddedServer
from tests.service import tiny_bundle
from tests.service.running import START_S, command, event, eventually, running
from tests.service.test_label_stream import Dialogue, line

SLATE = {"user_id": "alice", "candidates": [{"video_id": "v1", "duration_s": 20.0}]}


def refused(process: subprocess.Popen[str]) -> str:
    """What it says when it ends by itself, with exit code 2 and without a traceback."""
    with process:
        _, said = process.communicate(timeout=START_S)
    assert process.returncode == 2, said
    assert "Traceback" not in said
    lines = [text for text in said.splitlines() if not text.startswith("{")]  # the log's
    assert len(lines) == 1, said
    return lines[0]


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_killed_and_started_again_it_still_knows_the_sequences(bundles: Path, tmp_path: Path) -> None:
    with running(bundles, tmp_path) as service, service.client() as client:
        events = [event(f"e{i}", timestamp_ms=1000 + i) for i in range(10)]
        assert client.post("/label", json=events).json()["accepted"] == 10
        client.put("/videos", json=[{"video_id": "known", "duration_s": 48.0}]).raise_for_status()
        service.process.kill()
        service.process.wait()
    with running(bundles, tmp_path) as service, service.client() as client:
        assert client.post("/rerank", json=SLATE).json()["history_length"] == 10
        assert client.post("/label", json=events[0]).json()["duplicates"] == 1
        without = event("e11", video_id="known", duration_s=None)
        assert client.post("/label", json=without).json()["labels"][0]["label"] == 0.25


def test_a_signal_in_the_first_moment_ends_it_too(bundles: Path, tmp_path: Path) -> None:
    for wait_s in (0.0, 0.05, 0.051, 0.052):  # the background steps are every 50 ms here
        with running(bundles, tmp_path) as service:
            time.sleep(wait_s)
            assert service.terminate() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_ends_it_cleanly(bundles: Path, tmp_path: Path, number: int, workers: str) -> None:
    with running(bundles, tmp_path, "--workers", workers) as service, service.client() as client:
        client.get("/health/ready").raise_for_status()
        service.process.send_signal(number)
        assert service.process.wait(START_S) == 0
        assert service.process.stderr is not None
        assert "Traceback" not in service.process.stderr.read()
        assert not listening(client.base_url.port or 0)
    with running(bundles, tmp_path):
        pass  # the store was stopped: its folder is free


def test_while_draining_it_answers_and_is_not_ready(bundles: Path, tmp_path: Path) -> None:
    with running(bundles, tmp_path, REELRANK_DRAIN_S="1") as service, service.client() as client:
        client.get("/health/ready").raise_for_status()
        service.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: client.get("/health/ready").status_code == 503, seconds=0.9)
        assert client.post("/rerank", json=SLATE).status_code == 200
        assert service.process.wait(START_S) == 0


def test_a_stream_in_flight_ends_with_what_it_was_promised(bundles: Path, tmp_path: Path) -> None:
    with running(bundles, tmp_path) as service:
        dialogue = Dialogue(service.url)
        dialogue.say(line("e1", "alice") + b"\n")
        dialogue.headers()
        assert dialogue.hear()[0]["event_id"] == "e1"
        service.process.send_signal(signal.SIGTERM)
        (summary,) = dialogue.hear()
        assert (summary["status"], summary["accepted"]) == ("shutting_down", 1)
        assert dialogue.hear() == []
        dialogue.close()
        assert service.process.wait(START_S) == 0


def test_requests_in_flight_at_the_end_are_answered(bundles: Path, tmp_path: Path) -> None:
    answers: list[int] = []
    with running(bundles, tmp_path) as service:
        many = [event(f"e{i}", f"u{i}") for i in range(2000)]

        def ask() -> None:
            with service.client() as client:
                answers.append(client.post("/label", json=many).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.15)
        assert service.terminate() == 0
        asking.join()
    assert answers == [200]


def test_a_port_in_use_is_said_in_one_line(bundles: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for workers in ("1", "2"):
            said = refused(
                command(
                    "serve",
                    "--port",
                    port,
                    "--workers",
                    workers,
                    "--bundle",
                    str(bundles),
                    data_dir=tmp_path,
                )
            )
            assert port in said
            assert "--port" in said


def test_a_second_service_on_the_same_data_is_refused(bundles: Path, tmp_path: Path) -> None:
    with running(bundles, tmp_path):
        process = command("serve", "--port", "0", "--bundle", str(bundles), data_dir=tmp_path)
        assert str(tmp_path) in refused(process)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_bad_bundle_is_said_and_ends_the_start(tmp_path: Path, workers: str) -> None:
    folder = tiny_bundle.write(tmp_path / "bundles" / tiny_bundle.FIRST)
    (folder / "labeler.onnx").write_bytes(b"junk")
    args = ("serve", "--port", "0", "--workers", workers, "--bundle", str(folder))
    process = command(*args, data_dir=tmp_path)
    with process:
        _, said = process.communicate(timeout=START_S)
    assert process.returncode == 2
    assert "Traceback" not in said
    assert "labeler.onnx" in said


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({"REELRANK_MAX_EVENTS": "many"}, "REELRANK_MAX_EVENTS"),
        ({"REELRANK_DEVICE": "tpu"}, "REELRANK_DEVICE"),
        ({"REELRANK_API_KEYS": "no-rights"}, "API key"),
        ({"REELRANK_STORE": "http://nope"}, "redis://"),
        ({"REELRANK_BUNDLE": "/nowhere"}, "/nowhere"),
    ],
)
def test_a_setting_that_cannot_be_is_named(
    bundles: Path, tmp_path: Path, env: dict[str, str], named: str
) -> None:
    args = [] if "REELRANK_BUNDLE" in env else ["--bundle", str(bundles)]
    assert named in refused(command("serve", "--port", "0", *args, data_dir=tmp_path, **env))


def test_without_keys_it_binds_to_loopback_and_says_so(bundles: Path, tmp_path: Path) -> None:
    with running(bundles, tmp_path, "--host", "0.0.0.0") as service:
        assert service.url.startswith("http://127.0.0.1:")
        service.terminate()
        assert service.process.stderr is not None
        assert "0.0.0.0 is not served" in service.process.stderr.read()


def test_with_keys_it_binds_where_it_is_told(bundles: Path, tmp_path: Path) -> None:
    with running(bundles, tmp_path, "--host", "0.0.0.0", REELRANK_API_KEYS="k:read") as service:
        port = service.url.rpartition(":")[2]
        reply = httpx2.get(f"http://127.0.0.1:{port}/v1/models", headers={"authorization": "Bearer k"})
        assert reply.status_code == 200


def test_workers_share_port_state_metrics_and_versions(tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    tiny_bundle.write_root(root, tiny_bundle.FIRST, tiny_bundle.SECOND)
    with running(root, tmp_path / "data", "--workers", "2") as service:
        for i in range(40):  # a connection each, so that both workers get some
            with service.client() as client:
                client.post("/label", json=event(f"e{i}")).raise_for_status()
            with service.client() as client:
                assert client.post("/rerank", json=SLATE).json()["history_length"] == min(i + 1, 50)
        want = 'reelrank_requests_total{method="POST",route="/label",status="200"} 40.0'
        with service.client() as client:
            assert want in client.get("/metrics").text
            assert 'reelrank_events_total{outcome="accepted"} 40.0' in client.get("/metrics").text

        BundleStore(root).promote(tiny_bundle.SECOND)

        def everywhere(version: str) -> bool:
            versions = set()
            for _ in range(12):
                with service.client() as client:
                    reply = client.post("/label?store=false", json=event())
                    versions.add(reply.json()["model_version"])
            return versions == {version}

        def call(path: str, body: object = None) -> None:
            with service.client() as client:
                client.post(f"/v1/models{path}", json=body).raise_for_status()

        assert eventually(lambda: everywhere(tiny_bundle.SECOND))
        call(":rollback")
        assert eventually(lambda: everywhere(tiny_bundle.FIRST))
        call(f"/{tiny_bundle.SECOND}:split", {"share": 1.0})
        assert eventually(lambda: everywhere(tiny_bundle.SECOND))
        call(f"/{tiny_bundle.SECOND}:split", {"share": 0.0})
        assert eventually(lambda: everywhere(tiny_bundle.FIRST))


def test_services_with_a_store_of_their_own_share_what_is_in_it(bundles: Path, tmp_path: Path) -> None:
    with (
        EmbeddedServer(tmp_path / "store") as store,
        running(bundles, tmp_path / "a", "--store", store.url) as first,
        running(bundles, tmp_path / "b", REELRANK_STORE=store.url) as second,
        first.client() as one,
        second.client() as other,
    ):
        one.post("/label", json=event("e1")).raise_for_status()
        assert other.post("/rerank", json=SLATE).json()["history_length"] == 1
        assert other.post("/label", json=event("e1")).json()["duplicates"] == 1
        store.stop()
        assert one.post("/rerank", json=SLATE).json()["degraded"] == ["history"]
        assert one.post("/label", json=event("e2")).status_code == 503
        store.start()
        assert eventually(lambda: one.post("/label", json=event("e2")).status_code == 200)
        assert other.post("/rerank", json=SLATE).json()["history_length"] == 2


def test_a_worker_that_dies_is_replaced(bundles: Path, tmp_path: Path) -> None:
    with running(bundles, tmp_path, "--workers", "2") as service:
        children = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children")
        if not children.exists():
            pytest.skip("needs /proc with CONFIG_PROC_CHILDREN")

        def workers() -> list[int]:
            pids = [int(pid) for pid in children.read_text().split()]
            return [p for p in pids if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]

        first, second = workers()
        subprocess.run(["kill", "-9", str(first)], check=True)
        assert eventually(lambda: len(workers()) == 2 and first not in workers() and second in workers())
        with service.client() as client:
            assert client.get("/health/ready").status_code == 200
        assert service.terminate() == 0


def test_workers_whose_parent_was_killed_end_too(bundles: Path, tmp_path: Path) -> None:
    with running(bundles, tmp_path, "--workers", "2") as service:
        port = int(service.url.rpartition(":")[2])
        service.process.kill()
        service.process.wait()
        assert eventually(lambda: not listening(port))
