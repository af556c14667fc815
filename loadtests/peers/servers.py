"""Ours and its peers, all of them up at once: with one store, and the same users in it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2
import redis

from loadtests.peers.environments import ROOT, PeerUnavailable, environment
from loadtests.peers.processes import MARK, Peer, new_mark
from loadtests.peers.ranking import BUNDLE, PORT, STORE, WORKERS, history_key
from loadtests.peers.traffic import Histories
from loadtests.program import Program
from service.state import EmbeddedServer

OURS: Final = "reelrank"
READY: Final = {"bentoml": "/readyz", "litserve": "/health"}
"""The peers, and where each says that it is ready."""
START_S: Final = 90.0
TIMEOUT_S: Final = 20.0
PATIENCE_MS: Final = "20000"
"""Ours would refuse, or answer without the history, where it is late. The peers take the time it takes."""
QUIET: Final = {"BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1"}
"""Nobody is told that they were started."""


@dataclass(frozen=True, slots=True)
class Server:
    """One that answers `/rerank`.

    Attributes:
        name: `OURS`, or one of `READY`.
        address: host and port.
        mark: of its processes.
    """

    name: str
    address: tuple[str, int]
    mark: str

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.address[0]}:{self.address[1]}"


@contextmanager
def servers(
    version: Path, folder: Path, environments: Path, workers: int, known: Histories
) -> Iterator[list[Server]]:
    """Start them, ours first, and end them all.

    Args:
        version: the bundle's.
        folder: an empty one, for what they write.
        environments: where the peers' are.
        workers: of each.
        known: the users that each knows.

    Raises:
        PeerUnavailable: a peer cannot be installed, or did not come up.
        ProgramFailed, StoreUnavailable: ours, or the store, did not.
    """
    pythons = {name: environment(name, environments) for name in READY}
    with ExitStack() as stack:
        store = stack.enter_context(EmbeddedServer(folder / "store"))
        mark = new_mark()
        program = stack.enter_context(
            Program(
                version,
                folder / "ours",
                "--workers",
                str(workers),
                env={"REELRANK_STORE": store.url, "REELRANK_DEADLINE_MS": PATIENCE_MS, MARK: mark},
            )
        )
        host, _, port = program.url.removeprefix("http://").rpartition(":")
        found = [Server(OURS, (host, int(port)), mark)]
        _tell(found[0], store.url, known)
        for name, python in pythons.items():
            place = folder / name
            place.mkdir()
            port_of_it = _free_port()
            told = {BUNDLE: str(version), STORE: store.url, WORKERS: str(workers), PORT: str(port_of_it)}
            peer = stack.enter_context(
                Peer(command(name, python, port_of_it), variables(place, told), place, place / "log")
            )
            _wait(name, peer, f"http://127.0.0.1:{port_of_it}{READY[name]}")
            found.append(Server(name, ("127.0.0.1", port_of_it), peer.mark))
        yield found


def command(name: str, python: Path, port: int) -> list[str]:
    """What starts a peer."""
    if name == "bentoml":
        options = ["--host", "127.0.0.1", "--port", str(port)]
        return [str(python), "-m", "bentoml", "serve", "loadtests.peers.bento:Reranker", *options]
    return [str(python), "-m", "loadtests.peers.lit"]


def variables(place: Path, told: Mapping[str, str]) -> dict[str, str]:
    """A peer's: ours, without what concerns our own Python and our own service."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("REELRANK_", "PYTHON", "VIRTUAL_ENV"))}
    return {**kept, **QUIET, "PYTHONPATH": str(ROOT), "BENTOML_HOME": str(place / "bentoml"), **told}


def _tell(ours: Server, store: str, known: Histories) -> None:
    """Ours by its own door; the peers find them where they look."""
    with httpx2.Client(base_url=ours.url, timeout=TIMEOUT_S) as http:
        for events in known.values():
            http.post("/label", json={"events": events}).raise_for_status()
    with redis.Redis.from_url(store) as client:
        client.mset({history_key(user): json.dumps(events) for user, events in known.items()})


def _wait(name: str, peer: Peer, url: str) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and not peer.ended:
        try:
            if httpx2.get(url, timeout=1.0).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.05)
    raise PeerUnavailable(f"{name} did not start; its last words: {peer.last_words}")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
