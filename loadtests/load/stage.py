"""Where scenarios play: a service with a store of its own, users with histories, and traffic for them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loadtests.faults.proxy import FaultProxy
from loadtests.faults.stage import two_versions
from loadtests.load.closed_loop import saturate
from loadtests.load.open_loop import Check, Run, drive, due_times
from loadtests.load.traffic import Traffic
from loadtests.program import NOTHING, Program, ProgramFailed
from models.runtime import Bundle
from service.state import EmbeddedServer

SEED: Final = 20
HISTORY: Final = 50
"""Events of each user before anything is measured."""
HISTORY_RATE: Final = 20.0
"""Bodies of histories a second; the service is not to be found at its limits by that."""
CONNECTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class Pace:
    """How much of everything.

    Attributes:
        users: with a history each.
        seconds: of one run at one rate.
        saturate_s: of a run without pauses.
        slates: different ones a scenario sends.
        trials: of a search for a capacity, at most.
        trial_s: of one of them.
        rounds: of requests and bare calls in turn.
        starts: of the program.
        events_per_s: more than the service can label, so that no event is sent twice.
        deadline_ms: of a slate, `REELRANK_DEADLINE_MS`.
    """

    users: int
    seconds: float
    saturate_s: float
    slates: int
    trials: int
    trial_s: float
    rounds: int
    starts: int
    events_per_s: int
    deadline_ms: float = 200.0


FULL: Final = Pace(
    users=200,
    seconds=6.0,
    saturate_s=3.0,
    slates=1_500,
    trials=9,
    trial_s=3.0,
    rounds=25,
    starts=5,
    events_per_s=60_000,
)
SMOKE: Final = Pace(
    users=5,
    seconds=0.4,
    saturate_s=0.2,
    slates=12,
    trials=2,
    trial_s=0.2,
    rounds=1,
    starts=1,
    events_per_s=2_000,
    deadline_ms=10_000.0,  # nothing is measured, and it has to run on a machine that is busy with tests
)


@dataclass(frozen=True, slots=True)
class Stage:
    """What a scenario is given.

    Attributes:
        program: the service.
        traffic: for it.
        pace: of every scenario.
        bundles: two versions of the same graphs, the first active.
        bundle: the same, loaded here.
        proxy: before the store, if it was asked for.
    """

    program: Program
    traffic: Traffic
    pace: Pace
    bundles: Path
    bundle: Bundle
    proxy: FaultProxy | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Where the service answers."""
        host, _, port = self.program.url.removeprefix("http://").rpartition(":")
        return host, int(port)

    def most(self, requests: list[bytes], *, senders: int = 8, once: bool = False) -> float:
        """Answers a second when nobody pauses.

        Raises:
            ProgramFailed: none was 200; there is no load to be had of nothing.
        """
        seconds = self.pace.saturate_s
        most, found = saturate(self.address, requests, seconds=seconds, senders=senders, once=once)
        if not most:
            raise ProgramFailed(
                f"no request was answered with 200, but {found}; either the requests are bad, or the machine "
                f"is too busy for a deadline of {self.pace.deadline_ms:g} ms"
            )
        return most

    def drive(
        self, requests: list[bytes], rate: float, seconds: float | None = None, check: Check | None = None
    ) -> Run:
        """Requests at a rate, a second at least one."""
        due = due_times(max(1.0, rate), seconds or self.pace.seconds, self.traffic.arrivals())
        return drive(self.address, requests, due, connections=CONNECTIONS, check=check)


@contextmanager
def stage(
    version: Path, pace: Pace, *options: str, delayed: bool = False, env: Mapping[str, str] = NOTHING
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
        env = {"REELRANK_DEADLINE_MS": f"{pace.deadline_ms:g}", **env}
        program = stack.enter_context(Program(bundles, root / "data", *options, env=env))
        bundle = Bundle.load(version)
        traffic = Traffic(SEED, pace.users, list(bundle.vocabulary.id_to_index("video_id")))
        played = Stage(program, traffic, pace, bundles, bundle, proxy)
        histories = traffic.histories(HISTORY)
        played.drive(histories, rate=HISTORY_RATE, seconds=len(histories) / HISTORY_RATE)
        yield played
