"""Where scenarios play: a service with a store of its own, users with histories, and traffic for them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from loadtests.faults.proxy import FaultProxy
from loadtests.faults.stage import two_versions
from loadtests.load.closed_loop import saturate
from loadtests.load.figures import figures
from loadtests.load.open_loop import Run, drive, due_times
from loadtests.load.traffic import Traffic
from loadtests.program import Program
from models.runtime import Bundle
from service.store import EmbeddedServer

SEED: Final = 20
HISTORY: Final = 50
CONNECTIONS: Final = 64
NONE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Pace:
    """How much of everything.

    Attributes:
        users: with a history each.
        seconds: of one run at one rate.
        saturate_s: of a run without pauses.
        slates: different ones a scenario sends.
        steps: of a search for a capacity.
    """

    users: int
    seconds: float
    saturate_s: float
    slates: int
    steps: int


FULL: Final = Pace(users=500, seconds=6.0, saturate_s=4.0, slates=2_000, steps=6)
SMOKE: Final = Pace(users=5, seconds=0.5, saturate_s=0.3, slates=20, steps=1)


@dataclass(frozen=True, slots=True)
class Stage:
    """What a scenario is given.

    Attributes:
        program: the service.
        traffic: for it.
        pace: of every scenario.
        bundles: two versions of the same graphs, the first active.
        proxy: before the store, if it was asked for.
    """

    program: Program
    traffic: Traffic
    pace: Pace
    bundles: Path
    proxy: FaultProxy | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where the service answers."""
        host, _, port = self.program.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def most(self, requests: list[bytes]) -> float:
        """Answers a second when nobody pauses."""
        return saturate(self.address, requests, seconds=self.pace.saturate_s)[0]

    def drive(self, requests: list[bytes], rate: float, seconds: float | None = None) -> Run:
        """Requests at a rate."""
        due = due_times(rate, seconds or self.pace.seconds, self.traffic.arrivals())
        return drive(self.address, requests, due, connections=CONNECTIONS)

    def at(self, requests: list[bytes], rate: float, seconds: float | None = None) -> dict[str, Any]:
        """The figures of that."""
        return figures(self.drive(requests, rate, seconds))


@contextmanager
def stage(
    version: Path, pace: Pace, *options: str, delayed: bool = False, env: Mapping[str, str] = NONE
) -> Iterator[Stage]:
    """Set one, with the users' histories in the store, and clear it away again.

    Args:
        version: the folder of the version to serve.
        pace: see there.
        options: further ones of `serve`.
        delayed: whether a proxy stands before the store.
        env: further settings of the service.

    Raises:
        ProgramFailed: the service did not come up.
    """
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="load-")))
        bundles = two_versions(version, root / "bundles")
        proxy = None
        if delayed:
            server = stack.enter_context(EmbeddedServer(root / "store"))
            proxy = stack.enter_context(FaultProxy(server.url.removeprefix("unix://")))
            env = {**env, "REELRANK_STORE": f"redis://127.0.0.1:{proxy.port}"}
        program = stack.enter_context(Program(bundles, root / "data", *options, env=env))
        known = list(Bundle.load(version).vocabulary.rows("video_id"))
        played = Stage(program, Traffic(SEED, pace.users, known), pace, bundles, proxy)
        histories = played.traffic.histories(HISTORY)
        played.drive(histories, rate=10.0, seconds=len(histories) / 10.0)
        yield played
