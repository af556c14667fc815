"""A running service under test: its processes, its bundles, and an external store behind a proxy."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self

import httpx2

import models
from loadtests.command import LoadtestError
from loadtests.faults.proxy import FaultProxy
from loadtests.host import child_processes
from models.manifest import MANIFEST
from models.store import BundleStore
from service.state import EmbeddedServer

START_S: Final = 90.0
END_S: Final = 30.0
"""The service's own grace is shorter; what still runs after this is killed."""
MARK: Final = "LOADTEST_PROCESS"
"""Variable that all processes of one server inherit, whatever session, group or parent they have by then."""
FIRST: Final = "20260101-00000001"
SECOND: Final = "20260102-00000002"


def version_folder(root: Path | None) -> Path:
    """Return the folder of one version: `root` itself, or the active version in it; default: the released.

    Raises:
        BundleNotFound, CorruptBundle: see `BundleStore.current`.
    """
    root = root or Path(next(iter(models.__path__))) / "bundles"
    return root if (root / MANIFEST).exists() else BundleStore(root).path(BundleStore(root).current())


def wait_until(condition: Callable[[], bool], description: str, limit_s: float) -> None:
    """Poll a condition; raise `TimeoutError` with its description when it does not hold in time."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{description}: not within {limit_s:g} s")
        time.sleep(0.02)


class ServerProcess:
    """A server in a session of its own, ended with everything it has started. A context manager.

    Args:
        command: program and arguments.
        env: all of its variables.
        log: file for its output.
        folder: working directory; default: this process'.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], log: Path, folder: Path | None = None
    ) -> None:
        self._command = list(command)
        self._mark = secrets.token_hex(16)
        self._env = {**env, MARK: self._mark}
        self._log = log
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill_all()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.terminate()
        finally:
            self.kill_all()

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self._process is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether that process has ended."""
        return self._process is not None and self._process.poll() is not None

    @property
    def log(self) -> str:
        """Its output so far, over all starts."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def log_end(self) -> str:
        """The last three lines of its output."""
        return " / ".join(self.log.strip().splitlines()[-3:]) or "nothing"

    def pids(self) -> list[int]:
        """Return all running processes of this server; none where there is no `/proc`."""
        entry, pids = f"{MARK}={self._mark}".encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # ended, or of another user
                if entry in (folder / "environ").read_bytes().split(b"\0"):
                    pids.append(int(folder.name))
        return pids

    def start(self) -> None:
        """Start it."""
        self._spawn()

    def kill(self) -> None:
        """Send SIGKILL to the process that was started, and to no other; return when it has ended."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def terminate(self) -> int:
        """Send SIGTERM and return the exit code; 0 if it does not run."""
        if self._process is None:
            return 0
        self._process.terminate()
        return self._reap()

    def kill_all(self) -> None:
        """Send SIGKILL to every process of this server until none is left."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._reap()
        end = time.monotonic() + END_S
        while (pids := self.pids()) and time.monotonic() < end:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def _spawn(self, *options: str, stdout: int | None = None) -> subprocess.Popen[str]:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*self._command, *options],
                env=self._env,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log if stdout is None else stdout,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        return self._process

    def _reap(self) -> int:
        assert self._process is not None
        code = self._process.wait(END_S)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return code


class Service(ServerProcess):
    """`python -m service serve` on a free port of loopback; a second start takes the same port.

    Args:
        bundle: a folder of versions, or of one version.
        data_dir: its `REELRANK_DATA_DIR`.
        options: further ones of `serve`.
        env: further variables; the caller's own `REELRANK_*` are not passed on.
        log: file for its output; default: in the data folder.
    """

    def __init__(
        self,
        bundle: Path,
        data_dir: Path,
        *options: str,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        command = [sys.executable, "-m", "service", "serve", "--bundle", str(bundle), *options]
        variables = {k: v for k, v in os.environ.items() if not k.startswith("REELRANK_")}
        variables |= {"REELRANK_DATA_DIR": str(data_dir), **(env or {})}
        super().__init__(command, variables, log or data_dir / "service.log")
        self.url = ""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host, int(port or 0)

    def start(self) -> None:
        """Start it and wait until it listens; raise `LoadtestError` if it does not come up."""
        process = self._spawn("--port", str(self.address[1]), stdout=subprocess.PIPE)
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], START_S)
        match = re.search(r"http://[\w.]+:\d+", process.stdout.readline() if readable else "")
        if match is None:
            raise LoadtestError(f"the service did not start; the end of its log: {self.log_end}")
        self.url = match[0]

    def http(self, timeout_s: float = 10.0) -> httpx2.Client:
        """Return a client for single requests."""
        return httpx2.Client(base_url=self.url, timeout=timeout_s)

    def workers(self) -> list[int]:
        """Return the pids of its workers, where there are several."""
        return [pid for pid, line in child_processes(self.pid).items() if "spawn_main" in line]

    def store_pids(self) -> list[int]:
        """Return the pids of its embedded store."""
        children = child_processes(self.pid).items()
        return [pid for pid, line in children if "valkey" in line or "redis" in line]


@dataclass
class Store:
    """A store in a process of our own, behind a proxy."""

    server: EmbeddedServer
    proxy: FaultProxy
    folder: Path

    def start(self) -> None:
        """Start it again."""
        self.server.start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self.server.pid is not None
        os.kill(self.server.pid, number)

    def heal(self) -> None:
        """End the faults of its network, and its stop if it runs."""
        self.proxy.heal()
        if self.server.pid is not None:
            self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.signal(signal.SIGKILL)
        self.server.stop()


@dataclass
class Environment:
    """A running service, a folder of versions `FIRST` (active) and `SECOND`, the data folder, and an external
    store if any."""

    service: Service
    bundles: Path
    data: Path
    external_store: Store | None = None

    @property
    def store(self) -> Store:
        """The external store."""
        assert self.external_store is not None, "this environment has an embedded store"
        return self.external_store


@contextlib.contextmanager
def start_environment(
    version: Path,
    *options: str,
    external_store: bool = False,
    store_program: Path | None = None,
    appendfsync: Literal["everysec", "always"] = "everysec",
    env: Mapping[str, str] | None = None,
) -> Iterator[Environment]:
    """Start a service with an empty store, and end all of it afterwards.

    Args:
        version: folder of the version to serve.
        options: of `serve`.
        external_store: start a store of our own behind a proxy, instead of the embedded one.
        store_program: server of that store; default: the Valkey that comes with the service.
        appendfsync: of that store.
        env: further settings of the service.

    Raises:
        LoadtestError, StoreUnavailable: service or store did not come up.
    """
    with contextlib.ExitStack() as stack:
        # A short path, because that of a socket has at most some hundred bytes.
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="load-")))
        bundles = copy_as_two_versions(version, root / "bundles")
        store, settings = None, dict(env or {})
        if external_store:
            server = stack.enter_context(EmbeddedServer(root / "store", appendfsync, program=store_program))
            proxy = stack.enter_context(FaultProxy(server.url.removeprefix("unix://")))
            store = Store(server, proxy, root / "store")
            settings["REELRANK_STORE"] = f"redis://127.0.0.1:{proxy.port}"
        service = stack.enter_context(
            Service(bundles, root / "data", *options, env=settings, log=root / "service.log")
        )
        if store is not None:
            stack.callback(store.heal)  # a drill that was interrupted leaves its fault behind
        yield Environment(service, bundles, root / "data", store)


def copy_as_two_versions(version: Path, root: Path) -> Path:
    """Copy a version twice under the names `FIRST` and `SECOND`; make the first active. Return the folder."""
    for copy in (FIRST, SECOND):
        shutil.copytree(version, root / copy)
        manifest = root / copy / MANIFEST
        manifest.write_text(manifest.read_text().replace(version.name, copy))
    (root / "CURRENT").write_text(f"{FIRST}\n")
    return root
