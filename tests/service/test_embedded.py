"""The embedded server against what really happens to servers: kills, second starts, odd folders."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from models.errors import BadInput, StoreUnavailable
from service.server import store_supervisor
from service.server.back_off import LONGEST_PAUSE_S, QUICK_S, BackOff
from service.server.store_supervisor import StoreSupervisor
from service.state import EmbeddedServer, _parent_guard
from service.state.data_folder import DataFolder
from service.state.embedded import server_binary
from tests.service.command_line import Ended, invoke
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


def test_files_without_their_manifest_are_not_overwritten(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        asyncio.run(write(server.url, 20))
    [manifest] = tmp_path.glob("appendonlydir/*.manifest")
    aside = manifest.rename(tmp_path / "aside")
    with pytest.raises(StoreUnavailable, match="no manifest"), EmbeddedServer(tmp_path):
        pass
    aside.rename(manifest)
    with EmbeddedServer(tmp_path) as server:
        assert asyncio.run(count(server.url)) == 20


def append_only_file(data: Path) -> Path:
    [file] = data.glob("appendonlydir/*.incr.aof")
    return file


def repaired(data: Path) -> Ended:
    return invoke("store", "repair", env={"REELRANK_DATA_DIR": str(data)})


def test_a_start_that_drops_the_end_of_the_file_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with EmbeddedServer(tmp_path) as server:
        asyncio.run(write(server.url, 20))
    file = append_only_file(tmp_path)
    os.truncate(file, file.stat().st_size - 37)
    with EmbeddedServer(tmp_path) as server:
        assert asyncio.run(count(server.url)) == 19
    (line,) = caplog.messages
    assert re.search(rf"{file.name} ended in the middle of a write: its last \d+ bytes were dropped", line)
    caplog.clear()
    with EmbeddedServer(tmp_path):
        pass
    assert caplog.messages == []


def test_a_repair_keeps_what_is_whole_and_puts_the_rest_aside(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        asyncio.run(write(server.url, 20))
        assert "is in use by process" in repaired(tmp_path).err
    assert "nothing to repair" in repaired(tmp_path).out
    file = append_only_file(tmp_path)
    whole = file.read_bytes()
    at = whole.index(b"*", whole.index(b"EXEC", len(whole) // 2))  # the first command after a transaction
    file.write_bytes(whole[:at] + b"junk\r\n" + whole[at:])
    with pytest.raises(StoreUnavailable, match="service store repair"), EmbeddedServer(tmp_path):
        pass
    ended = repaired(tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert f"kept: the first {at:,} bytes" in ended.out
    assert f"dropped: its last {len(whole) - at + 6:,} bytes" in ended.out
    [aside] = tmp_path.glob("*.dropped-from-*")
    assert aside.read_bytes() == b"junk\r\n" + whole[at:]
    with EmbeddedServer(tmp_path) as server:
        assert 0 < asyncio.run(count(server.url)) < 20


@pytest.mark.parametrize("part", ["*.manifest", "*.base.rdb"])
def test_what_cannot_be_repaired_is_said_and_left_alone(tmp_path: Path, part: str) -> None:
    with EmbeddedServer(tmp_path) as server:
        asyncio.run(write(server.url, 5))
    [file] = tmp_path.glob(f"appendonlydir/{part}")
    file.write_bytes(b"nonsense\n")
    kept = append_only_file(tmp_path).read_bytes()
    ended = repaired(tmp_path)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "Restore the folder from a backup." in ended.err
    assert "store repair" not in ended.err
    assert append_only_file(tmp_path).read_bytes() == kept


def test_a_folder_that_is_gone_takes_no_writes_until_it_is_back(tmp_path: Path) -> None:
    data, aside = tmp_path / "data", tmp_path / "aside"
    with EmbeddedServer(data):
        folder = DataFolder(data)
        folder.check()
        for hidden in (data, data / "appendonlydir"):
            hidden.rename(aside)
            with pytest.raises(StoreUnavailable, match="removed or replaced"):
                folder.check()
            if hidden == data:
                data.mkdir()
                with pytest.raises(StoreUnavailable, match="removed or replaced"):
                    folder.check()
                data.rmdir()
            aside.rename(hidden)
            folder.check()


@pytest.mark.parametrize("long_path", [False, True])
def test_a_killed_server_is_started_again_under_the_same_address(tmp_path: Path, long_path: bool) -> None:
    restarts: list[int] = []
    server = EmbeddedServer(tmp_path / ("x" * 120 if long_path else "x"), "always")
    with StoreSupervisor(server, lambda: restarts.append(server.pid or 0)):
        url, pid = server.url, server.pid
        asyncio.run(write(url, 5))
        for turn in range(1, 4):
            os.kill(server.pid or 0, signal.SIGKILL)
            until(lambda turn=turn: len(restarts) == turn)
        assert server.url == url
        assert pid not in restarts
        assert asyncio.run(count(url)) == 5
    assert has_ended(restarts[-1])
    with EmbeddedServer(server._data):
        pass  # its folder is free


def test_a_server_that_cannot_live_is_given_up_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_supervisor, "MAX_QUICK_DEATHS", 3)
    given_up = threading.Event()
    server = EmbeddedServer(tmp_path)

    def break_and_kill() -> bool:
        [manifest] = tmp_path.glob("appendonlydir/*.manifest")
        manifest.write_bytes(b"nonsense\n")
        os.kill(server.pid or 0, signal.SIGKILL)
        return given_up.wait(60)

    supervisor = StoreSupervisor(server, give_up=given_up.set)
    with pytest.raises(StoreUnavailable, match=r"died 4 times in a row.*valkey\.log"), supervisor:
        assert break_and_kill()


def test_pauses_before_a_restart_double_until_a_process_has_lived_for_a_while() -> None:
    back_off = BackOff()
    assert [back_off.died(1.0) for _ in range(5)] == [0.0, 0.1, 0.2, 0.4, 0.8]
    assert [back_off.died(QUICK_S), back_off.died(1.0), back_off.died(1.0)] == [0.0, 0.0, 0.1]
    assert [back_off.died(1.0) for _ in range(20)][-1] == LONGEST_PAUSE_S


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
