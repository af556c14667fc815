"""File descriptors that run out: nothing stands still, and connections leave some over."""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.overload.event_loop_lag import REPORT_TICKS, EventLoopLagMonitor
from service.server import descriptors
from service.telemetry import process
from service.telemetry.metrics import Metrics
from tests.service.exchanges import is_problem
from tests.service.memory_store import MemoryStore
from tests.service.running import eventually, served

REQUEST = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture
def limit() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_timer_of_the_event_loop_goes_on_after_a_failure() -> None:
    async def main() -> None:
        reports, faults, done = 0, 0, asyncio.Event()

        def fault(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
            nonlocal faults
            faults += 1

        def report() -> None:
            nonlocal reports
            reports += 1
            if reports == 1:
                raise OSError(errno.EMFILE, "Too many open files")
            done.set()

        asyncio.get_running_loop().set_exception_handler(fault)
        monitor = EventLoopLagMonitor(lambda lag_s: None, report)
        monitor.start()
        await done.wait()
        monitor.stop()
        assert (reports, faults) == (2, 1)

    assert REPORT_TICKS > 1
    asyncio.run(main())


def test_metrics_are_reported_without_a_descriptor_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "STATM", tmp_path)  # a folder: reading it fails as opening does on EMFILE
    assert b"reelrank_process_resident_bytes 0.0" in Metrics().render()


def test_the_limit_is_raised_as_far_as_the_system_allows(limit: tuple[int, int]) -> None:
    soft, hard = limit
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    descriptors.raise_limit()
    allowed = descriptors.WANTED if hard == resource.RLIM_INFINITY else min(hard, descriptors.WANTED)
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == allowed


@pytest.mark.parametrize(("soft", "connections"), [(128, 64), (1024, 512), (4096, 3584)])
def test_connections_leave_descriptors_for_everything_else(
    limit: tuple[int, int], soft: int, connections: int
) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, limit[1]))
    assert descriptors.max_connections() == connections


def test_a_connection_too_many_is_refused_and_the_next_one_served_when_there_is_room(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.server.worker.max_connections", lambda: 3)
    with served(bundles, MemoryStore(), tmp_path) as client:
        address = ("127.0.0.1", client.base_url.port or 0)
        idle = [socket.create_connection(address) for _ in range(3)]
        for sock in idle:
            sock.sendall(REQUEST)
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert is_problem(client.get("/health/live"), 503)
        for sock in idle:
            sock.close()
        assert eventually(lambda: client.get("/health/live").status_code == 200)
