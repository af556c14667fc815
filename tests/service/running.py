"""The real program in a process of its own, and the real app in a thread, for tests over real HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import httpx2
import uvloop

from service.app import open_services
from service.server.sockets import listening
from service.server.worker import Server
from service.settings import Settings
from service.state.protocol import Store

START_S: Final = 120.0
NOW_MS: Final = 1_651_330_969_569
CALL_TIMEOUT_S: Final = 60.0
DEADLINE_MS: Final = 60_000
"""Of slates and labels, unless a test's subject is the deadline: a busy machine must not fail the others."""


@dataclass
class Service:
    """A running `python -m service serve`."""

    process: subprocess.Popen[str]
    url: str

    def client(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, **{"timeout": CALL_TIMEOUT_S} | options)

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_S)


def command(*args: str, data_dir: Path, **env: str) -> subprocess.Popen[str]:
    """`python -m service …`, its output to be read."""
    return _started(args, data_dir, env, subprocess.PIPE)


def _started(
    args: Sequence[str], data_dir: Path, env: Mapping[str, str], stderr: int | IO[str]
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "service", *args],
        env={
            **os.environ,
            "REELRANK_DATA_DIR": str(data_dir),
            "REELRANK_POLL_S": "0.05",
            "REELRANK_DEADLINE_MS": str(DEADLINE_MS),
            "REELRANK_LABEL_DEADLINE_MS": str(DEADLINE_MS),
            **env,
        },
        stdout=subprocess.PIPE,
        stderr=stderr,
        stdin=subprocess.DEVNULL,
        text=True,
    )


@contextlib.contextmanager
def running(bundle: Path, data_dir: Path, *args: str, **env: str) -> Iterator[Service]:
    """The program, answering. Ended with SIGTERM if the test has not ended it."""
    # Its log goes to a file: a pipe is not read while a test is running, and a full one would stop it.
    with tempfile.NamedTemporaryFile("w", suffix=".log") as log:
        options = ("serve", "--port", "0", "--bundle", str(bundle), *args)
        process = _started(options, data_dir, env, log.file)
        process.stderr = open(log.name)  # noqa: SIM115  # closed with the process
    assert process.stdout is not None
    with process:
        try:
            there, _, _ = select.select([process.stdout], [], [], START_S)
            line = process.stdout.readline() if there else ""
            found = re.search(r"http://\S+", line)
            if found is None:
                process.kill()
                raise AssertionError(f"it did not start: {line} {process.stderr.read()}")
            yield Service(process, found[0])
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(START_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise


@contextlib.contextmanager
def served(bundle: Path, store: Store, data_dir: Path, **options: Any) -> Iterator[httpx2.Client]:
    """The same app on a socket in a thread of this process, over a store of the test's."""
    defaults = {"deadline_ms": DEADLINE_MS, "label_deadline_ms": DEADLINE_MS}
    settings = Settings.read(bundle=bundle, data_dir=data_dir, poll_s=0.05, **defaults | options)
    ready = threading.Event()
    stop: list[Callable[[], object]] = []
    failed: list[BaseException] = []

    async def main() -> None:
        async with open_services(settings, store) as services:
            server = Server(services, lambda version: ready.set(), signals=())
            loop = asyncio.get_running_loop()
            stop.append(lambda: loop.call_soon_threadsafe(server.stop))
            await server.serve(sockets=[sock])

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        except BaseException as e:
            failed.append(e)
            ready.set()

    with listening("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert ready.wait(START_S)
            if failed:
                raise failed[0]
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=CALL_TIMEOUT_S) as client:
                yield client
        finally:
            for step in stop:
                step()
            thread.join(START_S)
            assert not thread.is_alive()


def event(event_id: str = "e1", user_id: str = "alice", **members: Any) -> dict[str, Any]:
    """A good event as a client writes it: half of a 24 s video watched."""
    return {
        "event_id": event_id,
        "user_id": user_id,
        "video_id": "v1",
        "timestamp_ms": NOW_MS,
        "watch_time_s": 12.0,
        "duration_s": 24.0,
    } | members


def eventually(holds: Callable[[], bool], seconds: float = 60.0) -> bool:
    """Whether it holds at some moment of the next seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.02)
    return holds()
