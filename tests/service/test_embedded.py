"""The embedded server against what really happens to servers: kills, second starts, odd folders."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from models.errors import BadInput, StoreUnavailable
from service.state import EmbeddedServer, _parent_guard
from service.state.embedded import server_binary
from tests.service.stores import event, redis_store, until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

PARENT = """
import sys, time
from pathlib import Path
from service.state import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]), sys.argv[2])
server.start()
print(server.url, server.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """A process that started a server on `tmp_path`, its URL and the server's pid."""
    command = [sys.executable, "-c", PARENT, str(tmp_path), "everysec"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url, pid = process.stdout.readline().split()
        yield process, url, int(pid)
        process.kill()


async def write(url: str, count: int) -> None:
    async with redis_store(url, prefix="kept", sequence_length=1000) as store:
        for i in range(count):
            await store.record("alice", [event(f"e{i}", after_ms=i)])


async def count(url: str) -> int:
    async with redis_store(url, prefix="kept") as store:
        state = await store.read("alice")
        return 0 if state is None else len(state.events)


def has_ended(pid: int) -> bool:
    """Return whether a process has ended, also if it is not yet waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_it_answers_on_a_private_socket_and_ends_with_the_block(tmp_path: Path) -> None:
    data = tmp_path / "new" / "folder"
    with EmbeddedServer(data) as server:
        path = data / "valkey.sock"
        assert server.url == f"unix://{path}"
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        pid = server.pid
        assert pid is not None
        assert os.getpgid(pid) != os.getpgid(0)  # Ctrl-C in the terminal is not for it
        with Redis.from_url(server.url) as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
            assert client.config_get("port") == {"port": "0"}
            assert int(client.config_get("maxmemory")["maxmemory"]) > 0
    assert has_ended(pid)
    assert not path.exists()


def test_what_was_written_is_there_at_the_next_start(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        asyncio.run(write(server.url, 20))
    with EmbeddedServer(tmp_path) as server:
        assert asyncio.run(count(server.url)) == 20


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killing_the_parent_ends_the_server_and_loses_nothing(
    tmp_path: Path, parent: tuple[subprocess.Popen[str], str, int]
) -> None:
    process, url, pid = parent
    asyncio.run(write(url, 50))
    process.kill()
    process.wait()
    with EmbeddedServer(tmp_path) as server:  # at once: it waits for the orphan to end
        assert has_ended(pid)
        assert asyncio.run(count(server.url)) == 50


@pytest.mark.parametrize("appendfsync", ["everysec", "always"])
def test_killing_the_server_loses_at_most_what_was_acknowledged_within_a_second(
    tmp_path: Path, appendfsync: str
) -> None:
    server = EmbeddedServer(tmp_path, "always" if appendfsync == "always" else "everysec")
    server.start()
    asyncio.run(write(server.url, 50))
    if appendfsync == "everysec":
        time.sleep(1.2)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.stop()
    with server:
        assert asyncio.run(count(server.url)) == 50


def test_a_second_start_on_the_folder_is_refused_and_harms_nothing(
    tmp_path: Path, parent: tuple[subprocess.Popen[str], str, int]
) -> None:
    process, url, _ = parent
    with pytest.raises(BadInput, match=f"in use by process {process.pid}"), EmbeddedServer(tmp_path):
        pass
    asyncio.run(write(url, 1))


def test_a_second_start_in_the_same_process_is_refused(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path), pytest.raises(BadInput, match=str(os.getpid())), EmbeddedServer(tmp_path):
        pass


def test_a_folder_with_a_long_path_gets_its_socket_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "r"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime) if len(str(runtime)) <= 64 else "")
    with EmbeddedServer(tmp_path / ("x" * 120)) as server:
        path = Path(server.url.removeprefix("unix://"))
        assert len(os.fsencode(path)) <= 103
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        asyncio.run(write(server.url, 1))
    assert not path.parent.exists()


def test_a_folder_with_spaces_and_marks_will_do(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path / "a b%20ü#?") as server:
        asyncio.run(write(server.url, 1))
        assert asyncio.run(count(server.url)) == 1


def test_a_socket_left_by_a_crash_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "valkey.sock").write_text("stale")
    with EmbeddedServer(tmp_path) as server:
        asyncio.run(write(server.url, 1))


def test_a_path_that_is_no_folder_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be used"), EmbeddedServer(tmp_path / "file"):
        pass
    with pytest.raises(BadInput, match="cannot be used"), EmbeddedServer(tmp_path / "file" / "below"):
        pass


def test_a_damaged_file_is_said_to_be_so_and_the_folder_is_free_again(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        asyncio.run(write(server.url, 5))
    [manifest] = tmp_path.glob("appendonlydir/*.manifest")
    kept = manifest.read_bytes()
    manifest.write_bytes(b"nonsense\n")
    with pytest.raises(StoreUnavailable, match=r"valkey\.log"), EmbeddedServer(tmp_path):
        pass
    manifest.write_bytes(kept)
    with EmbeddedServer(tmp_path) as server:
        assert asyncio.run(count(server.url)) == 5


def test_without_any_binary_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.state.embedded.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StoreUnavailable, match="REELRANK_STORE"):
        server_binary()


def test_without_the_package_a_server_on_the_path_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copy(server_binary(), tmp_path / "valkey-server")
    monkeypatch.setattr("service.state.embedded.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert server_binary() == tmp_path / "valkey-server"


async def fill(url: str) -> None:
    """Write until the server refuses; then what was acknowledged is there, and nothing else."""
    async with redis_store(url) as store:
        acknowledged: list[str] = []
        refused = ""
        while not refused:
            user = f"u{len(acknowledged)}"
            batch = [event(f"{user}-{i}", user, after_ms=i, device="d" * 256) for i in range(100)]
            try:
                await store.record(user, batch)
                acknowledged.append(user)
            except StoreUnavailable as e:
                refused = str(e)
        assert "maxmemory" in refused
        assert await store.read(user) is None
        for user in acknowledged:
            state = await store.read(user)
            assert state is not None
            assert len(state.events) == 100
        assert acknowledged


def test_a_full_server_refuses_and_forgets_nothing(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, max_memory=4 << 20) as server:
        asyncio.run(fill(server.url))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("mode", ["follow", "watch"])
def test_the_guard_ends_its_program_when_the_parent_is_killed(tmp_path: Path, mode: str) -> None:
    # A shell of our own in the middle is the parent; what it starts reports its pid, then sleeps.
    child = (
        f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}.'); time.sleep(600)"
    )
    middle = (
        "import os, subprocess, sys;"
        f"guard = [sys.executable, '-I', '-S', {_parent_guard.__file__!r}, {mode!r}, str(os.getpid())];"
        "subprocess.Popen([*guard,"
        f" sys.executable, '-c', {child!r}]).wait()"
    )
    with subprocess.Popen([sys.executable, "-c", middle]) as parent:
        until(lambda: (tmp_path / "pid").read_text().endswith("."))
        pid = int((tmp_path / "pid").read_text().rstrip("."))
        assert not has_ended(pid)
        parent.kill()
    until(lambda: has_ended(pid))
