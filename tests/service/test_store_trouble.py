"""A store that answers, and says no: full, read-only, out of disk, loading, empty, locked. Real servers."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError
from redis.retry import Retry

from service.state import EmbeddedServer, _parent_guard
from service.state.breaker import WINDOW
from service.state.embedded import server_binary
from tests.service.command_line import refusal
from tests.service.exchanges import metric
from tests.service.running import NOW_MS, event, eventually, running, served
from tests.service.stores import debian, embedded, patient_store, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

SLATE = {"user_id": "alice", "candidates": [{"video_id": "v1", "duration_s": 20.0}]}


@dataclass
class Setting:
    client: httpx2.Client
    server: Any
    """The store itself; its client has no types for what is not a command of everyday."""

    @property
    def url(self) -> str:
        return f"unix://{self.server.connection_pool.connection_kwargs['path']}"

    def label(self, **members: Any) -> httpx2.Response:
        return self.client.post("/label", json=event(**members))

    def degraded(self) -> list[str]:
        return list(self.client.get("/health/ready").json()["degraded"])

    def histories_are_read(self) -> bool:
        slate = self.client.post("/rerank", json=SLATE).json()
        return bool(slate["degraded"] == [] and slate["history_length"] >= 1)


@pytest.fixture(scope="module", params=["embedded", "debian"])
def setting(
    request: pytest.FixtureRequest, bundles: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Setting]:
    """A service on a server of its own, with one exposure of alice."""
    start = {"embedded": embedded, "debian": debian}[request.param]
    with start(tmp_path_factory.mktemp("server")) as url, Redis.from_url(url) as server:
        store = patient_store(url)
        with served(bundles, store, tmp_path_factory.mktemp("data")) as client:
            setting = Setting(client, server)
            assert setting.label().status_code == 200
            yield setting


@pytest.mark.parametrize(
    ("breaks", "heals", "reason"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "full"),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "read_only"),
    ],
    ids=["out of memory", "a read-only replica"],
)
def test_one_that_takes_no_writes_is_read_and_comes_back_by_itself(
    setting: Setting, breaks: tuple[str, ...], heals: tuple[str, ...], reason: str
) -> None:
    setting.server.execute_command(*breaks)
    try:
        for turn in range(WINDOW + 2):  # more than would open a circuit
            reply = setting.label(event_id=f"{reason}-{turn}")
            assert reply.status_code == 503
            assert f"({reason})" in reply.json()["detail"]
            assert reply.headers["retry-after"]
        assert setting.histories_are_read()
        assert (
            metric(setting.client, f'reelrank_store_failures_total{{calls="writes",reason="{reason}"}}') > 0
        )
        assert metric(setting.client, 'reelrank_store_breaker_state{calls="writes"}') == 0
        assert setting.degraded() == ["store_writes"]
    finally:
        setting.server.execute_command(*heals)
    # Nothing of what was refused is there: the same events are new.
    assert setting.label(event_id=f"{reason}-0").json()["accepted"] == 1
    assert setting.degraded() == []


def test_a_right_that_is_missing_makes_no_user_unreadable(
    setting: Setting, bundles: Path, tmp_path: Path
) -> None:
    setting.server.execute_command("ACL", "SETUSER", "poor", "on", ">word", "~*", "+@all", "-setrange")
    url = setting.url.replace("unix://", "unix://poor:word@")
    with served(bundles, patient_store(url), tmp_path) as client:
        client.post("/label", json=event("r1", "rick")).raise_for_status()
        reply = client.post("/label", json=event("r2", "rick", timestamp_ms=NOW_MS + 1))
        assert (reply.status_code, "(denied)" in reply.json()["detail"]) == (503, True)
        assert metric(client, 'reelrank_store_failures_total{calls="writes",reason="denied"}') == 1


def test_one_without_memory_still_forgets(setting: Setting) -> None:
    assert setting.label(event_id="bob-1", user_id="bob").status_code == 200
    setting.server.execute_command("CONFIG", "SET", "maxmemory", "1")
    try:
        assert setting.client.delete("/users/bob").json()["known"] is True
    finally:
        setting.server.execute_command("CONFIG", "SET", "maxmemory", "0")
    assert setting.client.get("/users/bob/sequence").status_code == 404


def test_a_user_of_whom_something_is_damaged_is_rejected_alone_until_forgotten(setting: Setting) -> None:
    setting.server.set("rr:s:{carol}", b"nonsense")
    carol, dave = event("carol-1", user_id="carol"), event("dave-1", user_id="dave")
    reply = setting.client.post("/label", json=[carol, dave])
    assert (reply.status_code, reply.json()["accepted"]) == (200, 1)
    [rejected] = reply.json()["rejected"]
    assert (rejected["index"], rejected["code"], rejected["loc"]) == (0, "unreadable", "user_id")
    assert setting.client.post("/label", json=carol).status_code == 409
    assert setting.client.delete("/users/carol").json()["known"] is True
    assert setting.client.post("/label", json=carol).json()["accepted"] == 1


def test_one_that_asks_for_a_password_later_is_said_to(setting: Setting) -> None:
    setting.server.config_set("requirepass", "hidden-word")
    path = setting.server.connection_pool.connection_kwargs["path"]
    owner: Any = Redis(unix_socket_path=path, password="hidden-word")
    try:
        owner.client_kill_filter(_type="normal", skipme=True)

        def is_said() -> bool:
            reply = setting.label(event_id="locked")
            assert reply.status_code == 503
            assert "hidden-word" not in reply.text
            return "(denied)" in reply.json()["detail"]

        # The first may still be written into a connection that was just ended, and writes are not repeated.
        assert eventually(is_said)
    finally:
        owner.config_set("requirepass", "")
        owner.close()
    assert eventually(lambda: setting.label(event_id="locked").status_code == 200)


@pytest.mark.parametrize(
    "lock",
    [
        ("CONFIG", "SET", "requirepass", "hidden-word"),
        ("ACL", "SETUSER", "default", "-mget"),
    ],
    ids=["password", "no reads"],
)
def test_one_that_does_not_let_us_in_ends_the_start_with_one_line(
    bundles: Path, tmp_path: Path, lock: tuple[str, ...]
) -> None:
    with embedded(tmp_path / "server") as url:
        with Redis.from_url(url) as server:
            execute: Any = server.execute_command
            execute(*lock)
        args = ("serve", "--port", "0", "--bundle", str(bundles), "--store", url)
        said = refusal(*args, data_dir=tmp_path)
        assert "REELRANK_STORE" in said
        assert "hidden-word" not in said


def test_a_disk_that_is_full_stops_writes_and_nothing_else(bundles: Path, tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "server") as server:
        assert server.pid is not None
        with served(bundles, patient_store(server.url), tmp_path) as client:
            setting = Setting(client, Redis.from_url(server.url))
            assert setting.label().status_code == 200
            with limited_files(server.pid):
                # What is written in the second before the server notices is kept in its memory.
                assert eventually(lambda: setting.label(event_id="e2", like=True).status_code == 503)
                reply = setting.label(event_id="e3")
                assert reply.status_code == 503
                assert "(disk)" in reply.json()["detail"]
                assert metric(client, 'reelrank_store_failures_total{calls="writes",reason="disk"}') > 0
                assert setting.histories_are_read()
            assert eventually(lambda: setting.label(event_id="e3").status_code == 200)
            setting.server.close()


def test_one_that_still_reads_its_files_is_waited_for_in_the_background(
    bundles: Path, tmp_path: Path
) -> None:
    path = tmp_path / "s.sock"
    options = ["--port", "0", "--unixsocket", str(path), "--dir", str(tmp_path), "--save", ""]
    options += ["--enable-debug-command", "yes", "--loading-process-events-interval-bytes", "1024"]
    guard = [
        sys.executable,
        "-I",
        "-S",
        _parent_guard.__file__,
        "follow",
        str(os.getpid()),
        str(server_binary()),
    ]
    with subprocess.Popen([*guard, *options], stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            with Redis(unix_socket_path=str(path)) as server:
                until(server.ping)
                with served(bundles, patient_store(f"unix://{path}"), tmp_path) as client:
                    setting = Setting(client, server)
                    assert setting.label().status_code == 200
                    server.mset({f"filling-{i}": b"x" * 1000 for i in range(400)})
                    server.config_set("key-load-delay", 4000)  # microseconds a key
                    reloading = threading.Thread(target=server.execute_command, args=("DEBUG", "RELOAD"))
                    reloading.start()
                    until(lambda: _is_loading(path))
                    reply = setting.label(event_id="e2")
                    assert reply.status_code == 503
                    assert "(loading)" in reply.json()["detail"]
                    slate = client.post("/rerank", json=SLATE)
                    assert (slate.status_code, slate.json()["degraded"]) == (200, ["history"])
                    assert setting.degraded() == ["store", "store_policy"]
                    reloading.join()
                    assert eventually(lambda: setting.label(event_id="e2").status_code == 200)
                    assert eventually(setting.histories_are_read)
        finally:
            process.terminate()


def test_one_that_comes_back_empty_is_gone_on_with(bundles: Path, tmp_path: Path) -> None:
    """Users are gone; this process still knows the catalogue, until it ends or the entries are put again."""
    server = EmbeddedServer(tmp_path / "server")
    server.start()
    try:
        with served(bundles, patient_store(server.url), tmp_path) as client:
            client.put("/videos", json=[{"video_id": "known", "duration_s": 24.0}]).raise_for_status()
            without = event("e1", video_id="known", duration_s=None)
            assert client.post("/label", json=without).json()["accepted"] == 1
            server.stop()
            shutil.rmtree(tmp_path / "server" / "appendonlydir")
            server.start()
            assert eventually(lambda: client.post("/rerank", json=SLATE).json()["degraded"] == [])
            assert client.post("/rerank", json=SLATE).json()["history_length"] == 0
            assert eventually(lambda: client.post("/label", json=without).status_code == 200)
            assert client.post("/label", json=without).json()["duplicates"] == 1
            client.put("/videos", json=[{"video_id": "known", "duration_s": 48.0}]).raise_for_status()
            labelled = client.post("/label", json=without | {"event_id": "e2"}).json()["labels"][0]
            assert labelled["label"] == 0.25
    finally:
        server.stop()


def test_a_ledger_that_cannot_be_written_keeps_the_user_until_it_can(bundles: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "unlearning.ndjson"
    with running(bundles, tmp_path) as service, service.client() as client:
        for user in ("alice", "bob"):
            client.post("/label", json=event(f"of-{user}", user)).raise_for_status()
        client.delete("/users/bob").raise_for_status()
        before = ledger.read_bytes()
        with limited_files(service.process.pid, len(before) + 5):  # room for the beginning of a line
            refused = client.delete("/users/alice")
            assert refused.status_code == 503
            assert "(ledger)" in refused.json()["detail"]
            assert client.get("/users/alice/sequence").status_code == 200
            assert client.post("/rerank", json=SLATE).json()["history_length"] == 1
        assert ledger.read_bytes() == before
        assert client.delete("/users/alice").json()["known"] is True
        assert ledger.read_bytes().startswith(before)
        assert ledger.read_bytes().count(b"\n") == 2


def test_a_data_folder_that_is_none_is_said_in_one_line(bundles: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.symlink_to("/proc/nothing")
    said = refusal("serve", "--port", "0", "--bundle", bundles, data_dir=folder)
    assert "REELRANK_DATA_DIR" in said


@pytest.mark.parametrize("hours", [1, -1])
def test_a_step_of_the_clock_costs_no_event(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    """What is remembered goes by the store's clock, time-outs by one that has no steps. Only the rule on
    events of the future looks at this machine's clock: it refuses, names the reason, and keeps nothing."""
    real = time.time
    now_ms = int(real() * 1000)
    with embedded(tmp_path / "server") as url, served(bundles, patient_store(url), tmp_path) as client:
        assert client.post("/label", json=event("e1", timestamp_ms=now_ms)).json()["accepted"] == 1
        monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
        assert client.post("/rerank", json=SLATE).json()["history_length"] == 1
        reply = client.post("/label", json=event("e2", timestamp_ms=now_ms)).json()
        old = client.post("/label", json=event("e3", timestamp_ms=now_ms - 3_600_000 * 2))
        assert old.json()["accepted"] == 1
        if hours > 0:
            assert reply["accepted"] == 1
            assert client.post("/label", json=event("e1", timestamp_ms=now_ms)).json()["duplicates"] == 1
        else:
            assert "in the future" in reply["errors"][0]["msg"]
        monkeypatch.undo()
        again = client.post("/label", json=event("e2", timestamp_ms=now_ms)).json()
        assert (again["accepted"], again["duplicates"]) == ((0, 1) if hours > 0 else (1, 0))


class limited_files:  # noqa: N801  # a context manager
    """A full disk, as one process sees it: its files may not grow beyond so many bytes."""

    def __init__(self, pid: int, size: int = 0) -> None:
        self._pid = pid
        self._size = size

    def __enter__(self) -> None:
        _, hard = resource.prlimit(self._pid, resource.RLIMIT_FSIZE)
        self._hard = hard
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (self._size, hard))

    def __exit__(self, *raised: object) -> None:
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (self._hard, self._hard))


def _is_loading(path: Path) -> bool:
    with Redis(unix_socket_path=str(path), retry=Retry(NoBackoff(), 0), socket_timeout=1) as probe:
        try:
            probe.get("filling-0")
        except BusyLoadingError:
            return True
    return False
