"""`python -m service serve`: starting, refusing to start, ending, and coming back."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr
from redis import Redis

from models.store import BundleStore
from service.commands.serve import listen_address
from service.settings import Settings
from service.state import EmbeddedServer, RedisStore
from tests.service import tiny_bundle
from tests.service.command_line import refusal
from tests.service.exchanges import metric
from tests.service.running import NOW_MS, START_S, Service, command, event, eventually, running, served
from tests.service.stores import patient_store

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.slow]

SLATE = {"user_id": "alice", "candidates": [{"video_id": "v1", "duration_s": 20.0}]}


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_killed_and_started_again_it_still_knows_the_sequences(bundles: Path, tmp_path: Path) -> None:
    with running(bundles, tmp_path) as service, service.client() as client:
        events = [event(f"e{i}", timestamp_ms=NOW_MS + i) for i in range(10)]
        assert client.post("/label", json=events).json()["accepted"] == 10
        client.put("/videos", json=[{"video_id": "known", "duration_s": 48.0}]).raise_for_status()
        service.process.kill()
        service.process.wait()
    with running(bundles, tmp_path) as service, service.client() as client:
        assert client.post("/rerank", json=SLATE).json()["history_length"] == 10
        assert client.post("/label", json=events[0]).json()["duplicates"] == 1
        without = event("e11", video_id="known", duration_s=None)
        assert client.post("/label", json=without).json()["labels"][0]["label"] == 0.25


def store_pid(data: Path) -> int:
    """The process of the embedded store."""
    with Redis.from_url(f"unix://{data}/valkey.sock") as store:
        return int(store.info("server")["process_id"])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_killed_store_is_started_again_and_one_without_a_folder_ends_the_program(
    bundles: Path, tmp_path: Path, workers: str
) -> None:
    data = tmp_path / "data"
    with running(bundles, data, "--workers", workers) as service, service.client() as client:
        pid = store_pid(data)
        with Redis.from_url(f"unix://{data}/valkey.sock") as store:
            store.config_set("appendfsync", "always")
        client.post("/label", json=event("e1")).raise_for_status()
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: client.post("/label", json=event("e2")).status_code == 200)
        assert client.post("/label", json=event("e1")).json()["duplicates"] == 1
        assert eventually(lambda: client.get("/health/ready").json()["degraded"] == [])
        assert metric(client, "reelrank_store_restarts_total") == 1

        pid = store_pid(data)
        shutil.rmtree(data)
        assert client.get("/health/ready").json()["degraded"] == ["store_writes"]
        assert client.post("/label", json=event("e3")).status_code == 503
        assert client.delete("/users/alice").status_code == 503
        assert client.post("/rerank", json=SLATE).json()["degraded"] == []
        assert "reelrank_requests_total" in client.get("/metrics").text
        assert not data.exists()
        os.kill(pid, signal.SIGKILL)
        assert service.process.wait(START_S) == 2
        assert service.process.stderr is not None
        log = service.process.stderr.read()
    (reason,) = [line for line in log.splitlines() if line.startswith("reelrank: ")]
    assert f"{data} was removed" in reason
    assert "Traceback" not in log


def test_a_stop_in_the_first_moment_ends_it_too(bundles: Path, tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "store") as server:
        for wait_s in (0.0, 0.05, 0.051, 0.052):  # the background steps are every 50 ms here
            with served(bundles, RedisStore.open(server.url), tmp_path):
                time.sleep(wait_s)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_ctrl_c_ends_it_cleanly(bundles: Path, tmp_path: Path, workers: str) -> None:
    """SIGTERM does the same, see `test_shutdown`."""
    args = ("--workers", workers, "--host", "0.0.0.0")
    with running(bundles, tmp_path, *args) as service, service.client() as client:
        client.get("/health/ready").raise_for_status()
        assert service.url.startswith("http://127.0.0.1:")
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(START_S) == 0
        assert service.process.stderr is not None
        log = service.process.stderr.read()
        assert "0.0.0.0 is not served" in log
        assert "Traceback" not in log
        assert not listening(client.base_url.port or 0)
    with EmbeddedServer(tmp_path):
        pass  # the store was stopped: its folder is free


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_in_use_is_said_in_one_line(bundles: Path, tmp_path: Path, workers: str) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        args = ("serve", "--port", port, "--workers", workers, "--bundle", bundles)
        reason = refusal(*args, data_dir=tmp_path)
    assert port in reason
    assert "--port" in reason


def test_a_second_service_on_the_same_data_is_refused(bundles: Path, tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path):
        args = ("serve", "--port", "0", "--bundle", bundles)
        assert str(tmp_path) in refusal(*args, data_dir=tmp_path)


def broken_bundle(folder: Path) -> Path:
    tiny_bundle.write(folder)
    (folder / "labeler.onnx").write_bytes(b"junk")
    return folder


def test_a_bad_bundle_is_said_and_ends_the_start(tmp_path: Path) -> None:
    folder = broken_bundle(tmp_path / "bundles" / tiny_bundle.FIRST)
    reason = refusal("serve", "--port", "0", "--bundle", folder, data_dir=tmp_path)
    assert "labeler.onnx" in reason


def test_a_bad_bundle_of_a_worker_ends_all_of_them(tmp_path: Path) -> None:
    folder = broken_bundle(tmp_path / "bundles" / tiny_bundle.FIRST)
    args = ("serve", "--port", "0", "--workers", "2", "--bundle", str(folder))
    with command(*args, data_dir=tmp_path) as process:
        _, log = process.communicate(timeout=START_S)
    assert (process.returncode, "Traceback" in log, "labeler.onnx" in log) == (2, False, True), log


@pytest.mark.parametrize(
    ("env", "word"),
    [
        ({"REELRANK_MAX_EVENTS": "many"}, "REELRANK_MAX_EVENTS"),
        ({"REELRANK_DEVICE": "tpu"}, "REELRANK_DEVICE"),
        ({"REELRANK_API_KEYS": "no-rights"}, "API key"),
        ({"REELRANK_STORE": "http://nope"}, "redis://"),
        ({"REELRANK_BUNDLE": "/nowhere"}, "/nowhere"),
        ({"REELRANK_DEADLINEMS": "5"}, "REELRANK_DEADLINE_MS"),
        ({"REELRANK_GRACE_S": "inf"}, "REELRANK_GRACE_S"),
        ({"REELRANK_EARLIEST_MS": "1104537600"}, "REELRANK_EARLIEST_MS"),
        ({"REELRANK_RETENTION_S": "9" * 30}, "REELRANK_RETENTION_S"),
        ({"REELRANK_DATA_DIR": "/proc/nope", "REELRANK_STORE": "redis://127.0.0.1:1"}, "/proc/nope"),
        ({"REELRANK_DATA_DIR": "~no-such-user/data"}, "REELRANK_DATA_DIR"),
    ],
)
def test_a_setting_that_cannot_be_is_named(
    bundles: Path, tmp_path: Path, env: dict[str, str], word: str
) -> None:
    args = () if "REELRANK_BUNDLE" in env else ("--bundle", str(bundles), "--workers", "2")
    assert word in refusal("serve", "--port", "0", *args, data_dir=tmp_path, **env)


def test_variables_that_kubernetes_makes_of_a_service_are_no_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_80_TCP_ADDR", "STORE_PORT_6379_TCP"):
        monkeypatch.setenv(f"REELRANK_{name}", "10.0.0.1")
    assert Settings.read().earliest_ms == 1_104_537_600_000


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose writes a variable that is not set as an empty one."""
    for name in ("STORE", "LOG_DIR", "LOG_MAX_BYTES"):
        monkeypatch.setenv(f"REELRANK_{name}", "")
    settings = Settings.read()
    assert (settings.store, settings.log_dir, settings.log_max_bytes) == (None, None, 10 * 2**30)


def test_a_ledger_that_cannot_be_written_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # which root is never refused
    assert "unlearning.ndjson" in refusal("serve", "--port", "0", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("keys", "host", "address"),
    [
        ("", "0.0.0.0", "127.0.0.1"),
        ("", "::1", "::1"),
        ("", "localhost", "localhost"),
        ("k:read", "0.0.0.0", "0.0.0.0"),
    ],
)
def test_it_listens_beyond_loopback_only_with_keys(keys: str, host: str, address: str) -> None:
    assert listen_address(Settings(api_keys=SecretStr(keys)), host) == address


def test_services_with_a_store_of_their_own_share_what_is_in_it(bundles: Path, tmp_path: Path) -> None:
    with (
        EmbeddedServer(tmp_path / "store") as store,
        served(bundles, patient_store(store.url), tmp_path / "a") as one,
        served(bundles, patient_store(store.url), tmp_path / "b") as other,
    ):
        one.post("/label", json=event("e1")).raise_for_status()
        assert other.post("/rerank", json=SLATE).json()["history_length"] == 1
        assert other.post("/label", json=event("e1")).json()["duplicates"] == 1
        store.stop()
        assert one.post("/rerank", json=SLATE).json()["degraded"] == ["history"]
        assert one.post("/label", json=event("e2")).status_code == 503
        store.start()
        assert eventually(lambda: one.post("/label", json=event("e2")).status_code == 200)
        assert eventually(lambda: other.post("/rerank", json=SLATE).json()["history_length"] == 2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions, to be promoted and rolled back."""
    folder = tmp_path_factory.mktemp("promoted")
    tiny_bundle.write_root(folder, tiny_bundle.FIRST, tiny_bundle.SECOND)
    return folder


@pytest.fixture(scope="module")
def pair(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of two workers; the last test of this file ends it."""
    with running(root, tmp_path_factory.mktemp("pair"), "--workers", "2") as service:
        yield service


def call(service: Service, method: str, path: str, body: object = None) -> httpx2.Response:
    """On a connection of its own, so that both workers get some."""
    with service.client(verify=False) as client:
        return client.request(method, path, json=body).raise_for_status()


def labelled(service: Service) -> str:
    """The series that counts POST /label."""
    text = call(service, "GET", "/metrics").text
    (series,) = [s for s in text.splitlines() if s.startswith("reelrank_requests_total") and '"/label"' in s]
    return series.rpartition(" ")[2]


def test_workers_share_port_state_metrics_and_versions(pair: Service, root: Path) -> None:
    for i in range(40):
        call(pair, "POST", "/label", event(f"e{i}"))
        assert call(pair, "POST", "/rerank", SLATE).json()["history_length"] == min(i + 1, 50)
    assert labelled(pair) == "40.0"
    assert 'reelrank_events_total{outcome="accepted"} 40.0' in call(pair, "GET", "/metrics").text

    def everywhere(version: str) -> bool:
        replies = [call(pair, "POST", "/label?store=false", event()).json() for _ in range(12)]
        return {reply["model_version"] for reply in replies} == {version}

    BundleStore(root).promote(tiny_bundle.SECOND)
    assert eventually(lambda: everywhere(tiny_bundle.SECOND))
    call(pair, "POST", "/v1/models:rollback")
    assert eventually(lambda: everywhere(tiny_bundle.FIRST))
    call(pair, "POST", f"/v1/models/{tiny_bundle.SECOND}:split", {"share": 1.0})
    assert eventually(lambda: everywhere(tiny_bundle.SECOND))
    call(pair, "POST", f"/v1/models/{tiny_bundle.SECOND}:split", {"share": 0.0})
    assert eventually(lambda: everywhere(tiny_bundle.FIRST))


def test_a_worker_that_dies_is_replaced_and_all_end_with_their_parent(pair: Service) -> None:
    children = Path(f"/proc/{pair.process.pid}/task/{pair.process.pid}/children")
    if not children.exists():
        pytest.skip("needs /proc with CONFIG_PROC_CHILDREN")

    def workers() -> list[int]:
        pids = [int(pid) for pid in children.read_text().split()]
        return [p for p in pids if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]

    call(pair, "POST", "/label", event("counted"))
    before = labelled(pair)
    first, second = workers()
    subprocess.run(["kill", "-9", str(first)], check=True)
    assert eventually(lambda: len(workers()) == 2 and first not in workers() and second in workers())
    assert call(pair, "GET", "/health/ready").status_code == 200
    assert labelled(pair) == before  # the replacement goes on from the counts of the dead worker

    port = int(pair.url.rpartition(":")[2])
    pair.process.kill()
    pair.process.wait()
    assert eventually(lambda: not listening(port))
