"""The load scenarios by name: each is one load profile against one service configuration and returns figures.

This file is long because all scenarios are in it, in the order they run.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from loadtests.bench import bare_ranker
from loadtests.client import BlockingConnection, with_calm_deadline
from loadtests.driver import (
    CONNECTIONS,
    Check,
    Run,
    by_second,
    drive,
    latency_curve,
    meets_objective,
    poisson_times,
    saturate,
    summarize,
    time_calls,
)
from loadtests.environment import SECOND, Environment, Service, start_environment
from loadtests.load.capacity_search import find_capacity
from loadtests.traffic import HOT_ZIPF, ZIPF, Traffic
from models.runtime import Bundle
from models.store import BundleStore

SEED: Final = 20
HISTORY: Final = 50
"""Events of each user before anything is measured."""
HISTORY_RATE: Final = 20.0
"""Requests a second that write them: far below saturation."""
P99_MS: Final = 10.0
ERRORS: Final = 0.001
"""The objective of the capacity search: p99 and share of errors."""
HALF: Final = 0.5
TWICE: Final = 2.0
WORKERS: Final = 2
STREAM_LINES: Final = 500
LABEL_OVERHEAD: Final = 10
"""Cost of a label request besides its events, in events: bounds the number of bodies to prepare."""
STORE_DELAY_S: Final = 0.005
LATER: Final = 100
"""Requests that the first one is compared with."""
INTERLEAVED: Final = 20
"""Requests, then as many bare graph calls, in turn: other load on the host affects both alike."""

START: Final = "start"
CLOSED_LOOPS: Final = (16, 64)
OVERLOAD: Final = "twice the capacity"
TWO_WORKERS: Final = f"rerank 200, {WORKERS} workers"
DELAYED_STORE: Final = "store 5 ms late"
RECORDED: Final = "recorded"

Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LoadProfile:
    """How much of everything."""

    users: int = 200  # each with a history
    seconds: float = 6.0  # of one run at one rate
    saturate_s: float = 3.0  # of a closed loop
    slates: int = 1_500  # different ones that a scenario sends
    trials: int = 9  # of a capacity search, at most
    trial_s: float = 3.0
    rounds: int = 25  # of interleaved requests and bare graph calls
    starts: int = 5  # of the program
    events_per_s: int = 60_000  # more than the service can label, so that no event is sent twice
    deadline_ms: float = 200.0


FULL: Final = LoadProfile()
# Nothing is measured, and it has to run on a busy host.
SMOKE: Final = LoadProfile(5, 0.4, 0.2, 12, 2, 0.2, 1, 1, 2_000, deadline_ms=10_000.0)


@dataclass(frozen=True, slots=True)
class Setup:
    """What a scenario gets: a running service whose users have histories, and traffic for it."""

    env: Environment
    traffic: Traffic
    profile: LoadProfile
    bundle: Bundle

    def slates(self, candidates: int = 200, *, known: bool = True, zipf: float = ZIPF) -> list[bytes]:
        """Return `POST /rerank` requests, fewer of large ones, see `Traffic.slates`."""
        count = max(1, self.profile.slates * min(200, candidates) // candidates)
        return self.traffic.slates(count, candidates, known=known, zipf=zipf)

    def closed_loop(self, requests: list[bytes], senders: int) -> dict[str, int]:
        """Return the replies by status of connections that never pause."""
        address, seconds = self.env.service.address, self.profile.saturate_s
        statuses = saturate(address, requests, seconds=seconds, senders=senders)[1]
        return {str(status): count for status, count in statuses.items()}

    def max_throughput(self, requests: list[bytes], *, senders: int = 8, once: bool = False) -> float:
        """Return the replies 200 a second of a closed loop; `once`: send no request twice.

        Raises:
            LoadtestError: none was 200.
        """
        limit = len(requests) if once else None
        seconds = self.profile.saturate_s
        address = self.env.service.address
        return saturate(address, requests, seconds=seconds, senders=senders, limit=limit)[0]

    def drive(
        self, requests: list[bytes], rate: float, seconds: float | None = None, check: Check | None = None
    ) -> Run:
        """Run an open loop of Poisson arrivals, at one request a second or more."""
        due_s = poisson_times(max(1.0, rate), seconds or self.profile.seconds, self.traffic.rng)
        return drive(self.env.service.address, requests, due_s, connections=CONNECTIONS, check=check)

    def measure(self, requests: list[bytes], rate: float, check: Check | None = None) -> Figures:
        """Return figures and latency curve of an open loop."""
        run = self.drive(requests, rate, check=check)
        return summarize(run) | {"curve": latency_curve(run)}

    def measure_at_half(self, requests: list[bytes], *, senders: int = 8) -> Figures:
        """Return `most`, the maximum throughput, and the figures at `half` of it."""
        most = self.max_throughput(requests, senders=senders)
        return {"most": round(most, 1), "half": self.measure(requests, most * HALF)}


@contextmanager
def start_setup(
    version: Path, profile: LoadProfile, *options: str, delayed_store: bool = False
) -> Iterator[Setup]:
    """Start a service, give its users histories, and end it afterwards.

    Args:
        version: folder of the version to serve.
        profile: sizes and durations.
        options: further ones of `serve`.
        delayed_store: put a proxy in front of the store.

    Raises:
        LoadtestError: the service did not come up.
    """
    env = {"REELRANK_DEADLINE_MS": f"{profile.deadline_ms:g}"}
    with start_environment(version, *options, external_store=delayed_store, env=env) as environment:
        bundle = Bundle.load(version)
        traffic = Traffic(SEED, profile.users, list(bundle.vocabulary.id_to_index("video_id")))
        setup = Setup(environment, traffic, profile, bundle)
        histories = traffic.histories(HISTORY)
        setup.drive(histories, HISTORY_RATE, len(histories) / HISTORY_RATE)
        yield setup


def measure_start(version: Path, profile: LoadProfile) -> Figures:
    """Measure the time to ready, and the first request against the next ones.

    One more start comes first and is not counted, because it compiles the modules of a checkout.
    """
    ready_s, first_s, later_s = [], [], []
    videos = list(Bundle.load(version).vocabulary.id_to_index("video_id"))
    slates = Traffic(SEED, profile.users, videos).slates(LATER + 1, 200)
    requests = [with_calm_deadline(slate) for slate in slates]
    for start in range(profile.starts + 1):
        with tempfile.TemporaryDirectory(prefix="load-") as data:
            began_s = perf_counter()
            with Service(version, Path(data)) as service, service.http() as http:
                http.get("/health/ready").raise_for_status()
                took_s = perf_counter() - began_s
                with BlockingConnection(service.address) as connection:
                    latencies = [_time_request(connection, request) for request in requests]
        if start:
            ready_s.append(took_s)
            first_s.append(latencies[0])
            later_s.append(statistics.median(latencies[1:]))
    ratios = [first / later for first, later in zip(first_s, later_s, strict=True)]
    return {
        "starts": profile.starts,
        "ready_s": round(statistics.median(ready_s), 3),
        "first_ms": round(statistics.median(first_s) * 1e3, 3),
        "later_ms": round(statistics.median(later_s) * 1e3, 3),
        "first_times_later": round(statistics.median(ratios), 2),
    }


def rerank(setup: Setup, candidates: int) -> Figures:
    """Measure slates of a size: maximum throughput, latency at half of it, and capacity."""
    requests = setup.slates(candidates)
    figures = setup.measure_at_half(requests)

    def holds(rate: float) -> bool:
        trial = summarize(setup.drive(requests, rate, setup.profile.trial_s))
        return meets_objective(trial, p99_ms=P99_MS, errors=ERRORS)

    rate = find_capacity(holds, figures["most"], setup.profile.trials)
    return figures | {"capacity": None if rate is None else round(rate, 1)}


def rerank_against_bare_graph(setup: Setup) -> Figures:
    """Measure slates of 200 candidates, and in turn with them the bare graph on such a slate's arrays."""
    figures = rerank(setup, 200)
    history = setup.traffic.history_events(HISTORY, ["bare"])
    bare = bare_ranker(setup.bundle, setup.traffic.slate("bare", 200), history)
    requests = [with_calm_deadline(request) for request in setup.slates()[:INTERLEAVED]]
    request_s: list[float] = []
    call_s: list[float] = []
    with BlockingConnection(setup.env.service.address) as connection:
        for _ in range(setup.profile.rounds + 1):
            request_s += [_time_request(connection, request) for request in requests]
            call_s += time_calls(bare, INTERLEAVED).tolist()
    request, call = (statistics.median(seconds[INTERLEAVED:]) for seconds in (request_s, call_s))
    return figures | {
        "one_connection_ms": round(request * 1e3, 3),
        "bare_call_ms": round(call * 1e3, 3),
        "over_bare_ms": round((request - call) * 1e3, 3),
        "times_bare": round(request / call, 2),
        "of_bare_throughput": round(figures["most"] * call, 3),
    }


def label(setup: Setup, events: int) -> Figures:
    """Measure new events in bodies of a size, stored before the reply."""
    return _measure_labels(setup, events, partial(setup.traffic.feedback, events=events))


def label_stream(setup: Setup) -> Figures:
    """Measure new events as NDJSON; count the streams without their closing summary."""
    unfinished = 0

    def check(status: int, body: bytes) -> None:
        nonlocal unfinished
        last_line = body[body.rfind(b"\n", 0, -1) + 1 :]
        unfinished += status == 200 and not last_line.startswith(b'{"status":"ok"')

    make_bodies = partial(setup.traffic.streams, lines=STREAM_LINES)
    return _measure_labels(setup, STREAM_LINES, make_bodies, check) | {"unfinished": unfinished}


def _measure_labels(
    setup: Setup, events: int, make_bodies: Callable[[int], list[bytes]], check: Check | None = None
) -> Figures:
    profile = setup.profile
    bodies = max(20, round(profile.events_per_s * profile.saturate_s / (events + LABEL_OVERHEAD)))
    most = setup.max_throughput(make_bodies(bodies), once=True)
    fresh = make_bodies(max(1, round(most * HALF * profile.seconds)))
    half = setup.measure(fresh, most * HALF, check)
    return {"most": round(most, 1), "events_per_s": round(most * events), "half": half}


def mixed(setup: Setup, zipf: float = ZIPF) -> Figures:
    """Measure nine slates to one event."""
    feedback = setup.traffic.feedback(setup.profile.slates // 5, zipf=zipf)
    return setup.measure_at_half(setup.traffic.mixed(setup.slates(zipf=zipf), feedback))


def hot_users(setup: Setup) -> Figures:
    """Measure the same where one user makes two fifths of the requests: one key is read and written."""
    share = setup.traffic.first_user_share(HOT_ZIPF)
    return mixed(setup, zipf=HOT_ZIPF) | {"first_users_share": round(share, 3)}


def several_workers(setup: Setup) -> Figures:
    """Measure two workers. The kernel spreads connections, not requests, so there are more senders."""
    return setup.measure_at_half(setup.slates(), senders=32) | {"workers": WORKERS}


def reload_and_rollback(setup: Setup) -> Figures:
    """Promote another version and roll back, at half load; compare with a quiet run just before."""
    requests = setup.slates()
    most = setup.max_throughput(requests)
    quiet = setup.measure(requests, most * HALF)
    errors: list[str] = []

    def swap() -> None:
        try:
            time.sleep(setup.profile.seconds / 3)
            BundleStore(setup.env.bundles).promote(SECOND)
            time.sleep(setup.profile.seconds / 3)
            with setup.env.service.http() as http:
                http.post("/v1/models:rollback").raise_for_status()
        except Exception as e:  # reported with the figures: an exception in a thread would be lost
            errors.append(repr(e))

    thread = threading.Thread(target=swap, daemon=True)
    thread.start()
    during = setup.measure(requests, most * HALF)
    thread.join()
    return {
        "most": round(most, 1),
        "quiet": quiet,
        "half": during,
        "p99_ratio": _p99_ratio(during, quiet),
        "failed": round(during["errors"] * during["requests"]),
        "swaps_failed": errors,
    }


def delayed_store(setup: Setup) -> Figures:
    """Measure with every byte from and to the store 5 ms late."""
    proxy = setup.env.store.proxy
    proxy.delay(STORE_DELAY_S)
    try:
        return setup.measure_at_half(setup.slates())
    finally:
        proxy.heal()


def overload(setup: Setup) -> Figures:
    """Offer twice the maximum throughput, which is measured before and after and averaged; before that, run
    closed loops of many connections."""
    requests = setup.slates()
    closed = {str(senders): setup.closed_loop(requests, senders) for senders in CLOSED_LOOPS}
    before = setup.max_throughput(requests)
    half = setup.measure(requests, before * HALF)
    run = setup.drive(requests, before * TWICE)
    most = (before + setup.max_throughput(requests)) / 2
    twice = summarize(run) | {"curve": latency_curve(run)}
    return {
        "most": round(most, 1),
        "closed": closed,
        "closed_refused": sum(n for by_status in closed.values() for s, n in by_status.items() if s != "200"),
        "half": half,
        "twice": twice,
        "by_second": by_second(run),
        "times_most": round(twice["rate"] / most, 2),
        "goodput_share": round(twice["goodput"] / most, 3),
        "neither_good_nor_refused": twice["errors"],
    }


SCENARIOS: Final[dict[str, Callable[[Setup], Figures]]] = {
    "rerank 50": lambda setup: rerank(setup, 50),
    "rerank 200": rerank_against_bare_graph,
    "rerank 500": lambda setup: rerank(setup, 500),
    "rerank 2000": lambda setup: rerank(setup, 2000),
    "rerank 200, cold-start users": lambda setup: setup.measure_at_half(setup.slates(known=False)),
    "reload and rollback": reload_and_rollback,
    OVERLOAD: overload,
    "mixed": mixed,
    "hot users": hot_users,
    "label 1": lambda setup: label(setup, 1),
    "label 100": lambda setup: label(setup, 100),
    "label NDJSON": label_stream,
    TWO_WORKERS: several_workers,
    DELAYED_STORE: delayed_store,
}
"""They share a running service where they can; those that only read come first, so that its users have the
histories they were given. Besides them there is `START`, which needs none."""

NAMES: Final = (START, *SCENARIOS)


def run_scenarios(
    names: Iterable[str], version: Path, profile: LoadProfile, log: Callable[[str], None]
) -> Iterator[tuple[str, Figures]]:
    """Run scenarios of `NAMES` in that order; yield name and figures.

    Args:
        names: of the scenarios.
        version: folder of the version to serve.
        profile: sizes and durations.
        log: called with each name before it runs.

    Raises:
        LoadtestError: the service did not come up, or answered nothing with 200.
    """
    alone = (START, TWO_WORKERS, DELAYED_STORE)
    selected = [name for name in NAMES if name in set(names)]
    for own, group in groupby(selected, key=lambda name: name if name in alone else None):
        if own == START:
            log(START)
            yield START, measure_start(version, profile)
            continue
        options = ("--workers", str(WORKERS)) if own == TWO_WORKERS else ()
        with start_setup(version, profile, *options, delayed_store=own == DELAYED_STORE) as setup:
            for name in group:
                log(name)
                yield name, SCENARIOS[name](setup)


def replay(requests: list[bytes], version: Path, profile: LoadProfile) -> Figures:
    """Measure a recording, repeated where it is too short; its events are then duplicates."""
    with start_setup(version, profile) as setup:
        return setup.measure_at_half(requests) | {"different": len(requests)}


def _time_request(connection: BlockingConnection, request: bytes) -> float:
    reply = connection.send(request)
    return reply.received_s - reply.sent_s


def _p99_ratio(figures: Figures, quiet: Figures) -> float | None:
    if not figures["ms"] or not quiet["ms"]:
        return None
    return round(float(figures["ms"]["p99"] / quiet["ms"]["p99"]), 2)
