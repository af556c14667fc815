"""Where scenarios play: a running service, and, if faults of the store are wanted, a store behind a proxy."""

from __future__ import annotations

import itertools
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import httpx2

from loadtests.faults.ledger import Count, Ledger
from loadtests.faults.load import Load, Pace
from loadtests.faults.proxy import FaultProxy
from loadtests.faults.report import Row, row
from loadtests.program import NOTHING, Program
from service.state import EmbeddedServer

CHECK_TIMEOUT_S: Final = 10.0
FIRST: Final = "20260101-00000001"
SECOND: Final = "20260102-00000002"

_numbers: Final = itertools.count(1)


@dataclass
class Stage:
    """A service that answers, and what can be broken about it.

    Attributes:
        program: the service.
        headers: with a key that may do everything.
        pace: of every scenario here.
        bundles: a folder of two versions of the same graphs, `FIRST` and `SECOND`; the first is active.
        outside: the store and the proxy before it, if the service does not keep its own.
    """

    program: Program
    headers: dict[str, str]
    pace: Pace
    bundles: Path
    outside: StoreOutside | None = None
    _read: int = field(default=0)

    @property
    def store(self) -> EmbeddedServer:
        assert self.outside is not None, "this stage has no store of its own"
        return self.outside.server

    @property
    def proxy(self) -> FaultProxy:
        assert self.outside is not None, "this stage has no store of its own"
        return self.outside.proxy

    def load(self, **options: Any) -> Load:
        """Load on users of its own."""
        ledger = Ledger(f"f{next(_numbers)}")
        return Load(self.program.url, self.headers, ledger, self.pace, **options)

    def http(self) -> httpx2.Client:
        """A client to look and ask with."""
        return httpx2.Client(base_url=self.program.url, headers=self.headers, timeout=CHECK_TIMEOUT_S)

    def check(self, load: Load) -> Count:
        """Hold what the service has against what the load was told."""
        with self.http() as http:
            return load.ledger.check(http)

    def row(self, name: str, load: Load, events: Count | None = None, **notes: Any) -> Row:
        """The figures of a load that has ended, after a look at the store."""
        events = events or self.check(load)
        said = self.program.log[self._read :]
        self._read += len(said)
        return row(name, load, events, said, **notes)


Scenario = Callable[[str, Stage], Row]
"""Plays on a stage, under a name, and leaves it as it was."""


@dataclass
class StoreOutside:
    """A store in a process that is not the service's own."""

    server: EmbeddedServer
    proxy: FaultProxy
    folder: Path


@contextmanager
def stage(
    version: Path,
    pace: Pace,
    *options: str,
    outside: bool = False,
    server: Path | None = None,
    appendfsync: Literal["everysec", "always"] = "everysec",
    env: Mapping[str, str] = NOTHING,
) -> Iterator[Stage]:
    """Set one, and clear it away again.

    Args:
        version: the folder of the version to serve.
        pace: of the scenarios.
        options: of `serve`.
        outside: whether the store is a server that we start, behind a proxy; else the service starts its own.
        server: that server's program, by default the Valkey that comes with the service.
        appendfsync: of that server.
        env: further variables of the service.

    Raises:
        ProgramFailed, StoreUnavailable: the one or the other did not come up.
    """
    key = secrets.token_hex(16)
    with ExitStack() as stack:
        # Short, because a socket's path has at most some hundred bytes.
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-")))
        given = {"REELRANK_API_KEYS": f"{key}:label+rerank+read+admin", **env}
        bundles = two_versions(version, root / "bundles")
        store = None
        if outside:
            folder = root / "store"
            process = stack.enter_context(EmbeddedServer(folder, appendfsync, program=server))
            proxy = stack.enter_context(FaultProxy(process.url.removeprefix("unix://")))
            store = StoreOutside(process, proxy, folder)
            given["REELRANK_STORE"] = f"redis://127.0.0.1:{proxy.port}"
        program = stack.enter_context(Program(bundles, root / "data", *options, env=given))
        yield Stage(program, {"Authorization": f"Bearer {key}"}, pace, bundles, store)


def two_versions(version: Path, root: Path) -> Path:
    """A folder with two copies of a version that differ in nothing but their names; the first is active."""
    name = version.name
    for copy in (FIRST, SECOND):
        shutil.copytree(version, root / copy)
        manifest = root / copy / "manifest.json"
        manifest.write_text(manifest.read_text().replace(name, copy))
    (root / "CURRENT").write_text(f"{FIRST}\n")
    return root
