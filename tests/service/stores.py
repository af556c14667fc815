"""Real stores for tests: functions and context managers, to make fixtures of."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisError

from loadtests.host import free_port
from models.schema import FeedbackEvent
from service.state import EmbeddedServer, RedisStore, _parent_guard
from tests.service.memory_store import MemoryStore

LENGTH = 3
WINDOW_S = 1000
START_MS = 1_651_330_969_569


class Clock:
    """A clock that only `forward` moves, and with it the age of every key of the servers that were added."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self._servers: list[tuple[str, str]] = []

    def __call__(self) -> int:
        return self.now_ms

    def add(self, url: str, prefix: str) -> None:
        self._servers.append((url, prefix))

    def forward(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)
        for url, prefix in self._servers:
            kind: Any = RedisCluster if url.startswith("redis+cluster") else Redis
            with kind.from_url(url.replace("+cluster", "").partition(",")[0]) as client:
                for key in client.scan_iter(f"{prefix}:*", count=1000):
                    client.pexpire(key, client.pttl(key) - round(seconds * 1000))  # deletes it if below 0


def event(event_id: str = "e1", user_id: str = "alice", after_ms: int = 0, **members: Any) -> FeedbackEvent:
    """An exposure `after_ms` after the start, of a video named after the event."""
    given = {"video_id": f"v-{event_id}", "watch_time_s": 48.4, "duration_s": 24.0, **members}
    return FeedbackEvent(event_id=event_id, user_id=user_id, timestamp_ms=START_MS + after_ms, **given)


def memory_store(clock: Clock, length: int = LENGTH) -> MemoryStore:
    return MemoryStore(sequence_length=length, idempotency_window_s=WINDOW_S, now_ms=clock)


@asynccontextmanager
async def redis_store(url: str, **options: Any) -> AsyncIterator[RedisStore]:
    """A store with keys of its own on a server that others use too."""
    store = patient_store(url, **{"prefix": f"test-{uuid.uuid4().hex}", **options})
    try:
        yield store
    finally:
        await store.close()


def small_redis_store(url: str, clock: Clock, length: int = LENGTH) -> Any:
    """The like of `memory_store`, on a server."""
    prefix = f"test-{uuid.uuid4().hex}"
    clock.add(url, prefix)
    return redis_store(url, prefix=prefix, sequence_length=length, idempotency_window_s=WINDOW_S)


def patient_store(url: str, **options: Any) -> RedisStore:
    """A store that waits longer than any busy machine takes."""
    return RedisStore.open(url, **{"timeout_s": 5, "read_timeout_s": 5, **options})


@contextmanager
def embedded(data_dir: Path) -> Iterator[str]:
    """The URL of a running Valkey."""
    with EmbeddedServer(data_dir) as server:
        yield server.url


@contextmanager
def debian(data_dir: Path) -> Iterator[str]:
    """The URL of a running redis-server of the system, or the test is skipped."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on the PATH (apt-get install redis-server)")
    with EmbeddedServer(data_dir, program=Path(program)) as server:
        yield server.url


@contextmanager
def cluster(data_dir: Path, program: Path) -> Iterator[str]:
    """The URL of a cluster of one node: it has every slot, and refuses a command or script over two."""
    port, bus = free_port(), free_port()
    command = [str(program), "--port", str(port), "--cluster-enabled", "yes", "--cluster-port", str(bus)]
    command += ["--bind", "127.0.0.1", "--dir", str(data_dir), "--save", "", "--logfile", "server.log"]
    guard = [sys.executable, "-I", "-S", _parent_guard.__file__, "follow", str(os.getpid())]
    with subprocess.Popen([*guard, *command], start_new_session=True) as server:
        try:
            with Redis(port=port) as client:
                until(lambda: client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383))
                until(lambda: client.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
            yield f"redis://127.0.0.1:{port}"
        finally:
            server.terminate()


def until(condition: Any, timeout_s: float = 20.0) -> None:
    """Wait until `condition()` is true and raises no connection error."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return
        except (RedisError, OSError):
            pass
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)
