"""Our service and its peers, all running at once, with one store and the same users in it.

Each peer runs in an environment of its own, made from pinned requirements.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
import redis

from loadtests.client import Address
from loadtests.command import LoadtestError, log_progress
from loadtests.environment import START_S, ServerProcess, Service, wait_until
from loadtests.host import free_port
from loadtests.peers.ranking import BUNDLE, PORT, STORE, WORKERS, history_key
from loadtests.report import REELRANK
from loadtests.traffic import label_requests
from service.state import EmbeddedServer

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "runs" / "peers"
READY_PATHS: Final = {"bentoml": "/readyz", "litserve": "/health"}
"""The peers, and the path that answers 200 when each is ready."""
INSTALL_S: Final = 900.0
TIMEOUT_S: Final = 20.0
CALM_DEADLINE_MS: Final = "20000"
"""Ours would refuse or degrade where it is late; the peers have no deadline."""
NO_TRACKING: Final = {"BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1"}

Histories = Mapping[str, Sequence[bytes]]
"""Events of each user as JSON, oldest first."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server that answers `/rerank`."""

    name: str
    address: Address
    process: ServerProcess

    @property
    def url(self) -> str:
        """Of the server."""
        return f"http://{self.address[0]}:{self.address[1]}"


def requirements(name: str) -> Path:
    """Return the file that pins what a peer needs."""
    return Path(__file__).with_name(f"requirements-{name}.txt")


def pinned_version(name: str, package: str | None = None) -> str:
    """Return the pinned version of a peer, or of a package that it needs."""
    match = re.search(rf"^{package or name}==(\S+)$", requirements(name).read_text(), re.MULTILINE)
    assert match is not None, f"{requirements(name)} does not pin {package or name}"
    return match[1]


def installed_python(name: str, folder: Path = FOLDER) -> Path | None:
    """Return the Python of a peer's environment; `None` if it is missing or of other requirements."""
    python, origin = folder / name / "bin" / "python", folder / name / "requirements.txt"
    current = python.exists() and origin.exists() and origin.read_bytes() == requirements(name).read_bytes()
    return python if current else None


def install(name: str, folder: Path = FOLDER) -> Path:
    """Return the Python of a peer's environment, made if it is missing.

    Raises:
        LoadtestError: it cannot be installed.
    """
    if (python := installed_python(name, folder)) is not None:
        return python
    version, target = f"{name} {pinned_version(name)}", folder / name
    python = target / "bin" / "python"
    log_progress("peers", f"installing {version} into {target}")
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "--no-input"]
    try:
        for command in (
            [sys.executable, "-m", "venv", "--clear", "--without-pip", str(target)],
            [*pip, "install", "-q", "-r", str(requirements(name))],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_S)
            if done.returncode:
                lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
                line = next((line for line in lines if line.startswith("ERROR")), lines[-1])
                reason = re.sub(r" \(from versions: .*\)", "", line)  # pip lists every version there is
                raise LoadtestError(
                    f"{version} cannot be installed: {reason}. pip takes it from the package index: connect "
                    "this host to one, or name a reachable one with PIP_INDEX_URL, and run this again."
                )
        (target / "requirements.txt").write_bytes(requirements(name).read_bytes())
    except (OSError, subprocess.TimeoutExpired) as e:
        raise LoadtestError(f"{version} cannot be installed into {target}: {e}.") from e
    return python


def peer_variables(folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Return a peer's variables: ours without those of our Python and our service."""
    own_prefixes = ("REELRANK_", "PYTHON", "VIRTUAL_ENV")
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(own_prefixes)}
    own = {"PYTHONPATH": str(ROOT), "BENTOML_HOME": str(folder / "bentoml")}
    return inherited | NO_TRACKING | own | dict(settings)


@contextmanager
def start_servers(
    version: Path, folder: Path, environments: Path, workers: int, histories: Histories
) -> Iterator[list[Server]]:
    """Start ours, then the peers, and end them all afterwards.

    Args:
        version: folder of the bundle's version.
        folder: an empty one, for what they write.
        environments: folder of the peers' environments.
        workers: of each server.
        histories: of the users that each knows.

    Raises:
        LoadtestError: a peer cannot be installed, or a server did not come up.
    """
    pythons = {name: install(name, environments) for name in READY_PATHS}
    with ExitStack() as stack:
        store = stack.enter_context(EmbeddedServer(folder / "store"))
        env = {"REELRANK_STORE": store.url, "REELRANK_DEADLINE_MS": CALM_DEADLINE_MS}
        service = stack.enter_context(Service(version, folder / REELRANK, "--workers", str(workers), env=env))
        _write_histories(service, store.url, histories)
        servers = [Server(REELRANK, service.address, service)]
        for name, python in pythons.items():
            (folder / name).mkdir()
            port = str(free_port())
            settings = {BUNDLE: str(version), STORE: store.url, WORKERS: str(workers), PORT: port}
            command = [str(python), "-m", "loadtests.peers.lit"]
            if name == "bentoml":
                command = [str(python), "-m", "bentoml", "serve", "loadtests.peers.bento:Reranker"]
                command += ["--host", "127.0.0.1", "--port", port]
            variables = peer_variables(folder / name, settings)
            peer = ServerProcess(command, variables, folder / name / "log", folder / name)
            server = Server(name, ("127.0.0.1", int(port)), stack.enter_context(peer))
            wait_until(lambda server=server: _is_ready(server), f"{name} did not start", START_S)  # type: ignore[misc]
            servers.append(server)
        yield servers


def _write_histories(service: Service, store_url: str, histories: Histories) -> None:
    """Report the histories to our service; write them where the peers read them."""
    with service.http(TIMEOUT_S) as http:
        for events in histories.values():
            body = label_requests(events, len(events))[0].partition(b"\r\n\r\n")[2]
            http.post("/label", content=body, headers={"content-type": "application/json"}).raise_for_status()
    with redis.Redis.from_url(store_url) as client:
        client.mset({history_key(user): b"[" + b",".join(e) + b"]" for user, e in histories.items()})


def _is_ready(server: Server) -> bool:
    if server.process.ended:
        raise LoadtestError(f"{server.name} did not start; the end of its log: {server.process.log_end}")
    with suppress(httpx2.TransportError):
        return httpx2.get(server.url + READY_PATHS[server.name], timeout=1.0).status_code == 200
    return False
