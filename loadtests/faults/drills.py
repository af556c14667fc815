"""The fault drills: faults of the store, of bundles and of processes, and kills under as many events as fit.

This file is long because all drills but those of bad clients are in it, each one whole.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import httpx2
from redis import Redis

from loadtests.driver import SPREAD, percentiles_ms
from loadtests.environment import FIRST, SECOND, Environment, Store, wait_until
from loadtests.faults.background_load import BackgroundLoad, FaultProfile
from loadtests.faults.endless_graph import write_endless
from loadtests.faults.ledger import Count, Ledger
from loadtests.report import MAY_LOSE
from models.manifest import MANIFEST
from models.store import BundleStore

BROKEN: Final = "20260103-00000003"
WAIT_S: Final = 20.0
"""For the service to take notice of a version, and to replace a worker."""
TRICKLE_BYTES_PER_S: Final = 200.0
SENT_JUST_BEFORE_S: Final = 0.05
"""A request sent this shortly before a SIGTERM may arrive after the listening socket was closed."""
FAILED_RELOADS: Final = 'reelrank_bundle_reloads_total{outcome="failed"}'
KILL_SENDERS: Final = 6
KILL_BATCH: Final = 50
KILL_WAIT_S: Final = 120.0
"""For the events between two kills."""

_numbers: Final = itertools.count(1)


@dataclass(frozen=True, slots=True)
class DrillResult:
    """What a drill found."""

    name: str
    requests: int  # before, during and after the fault
    answers: dict[str, int]  # their number by outcome
    label_ms: dict[str, float]  # p50, p99 and max of the requests sent during the fault
    rerank_ms: dict[str, float]
    recovered_s: float | None
    events: Count
    tracebacks: int  # in the service's log
    notes: dict[str, Any]  # further figures of the drill; a `False` is a failure

    def failures(self) -> list[str]:
        """Return what must not happen, in words; empty if nothing did.

        Under `everysec` a killed store may lose up to a second's worth of acknowledged events.
        """
        tolerated = int(self.notes["events_per_s"]) if self.name in MAY_LOSE else 0
        counts = {
            "events lost": self.events.losses if self.events.losses > tolerated else 0,
            "events duplicated": self.events.duplicates,
            "answers 500": self.answers.get("500", 0),
            "tracebacks in the log": self.tracebacks,
            "requests dropped": self.notes.get("dropped", 0),
        }
        failures = [f"{count} {what}" for what, count in counts.items() if count]
        failures += [f"failed: {note.replace('_', ' ')}" for note, ok in self.notes.items() if ok is False]
        return failures if self.recovered_s is not None else [*failures, "no recovery"]


@dataclass
class DrillContext:
    """A service to break, left as it was, and the rates and durations of the drill."""

    env: Environment
    profile: FaultProfile
    _log_read: int = 0

    def load(self, **options: Any) -> BackgroundLoad:
        """Return a load on users of its own."""
        ledger = Ledger(f"f{next(_numbers)}")
        return BackgroundLoad(self.env.service.address, ledger, self.profile, **options)

    def result(
        self, name: str, load: BackgroundLoad, events: Count | None = None, **notes: Any
    ) -> DrillResult:
        """Return the figures of a load that has ended, and settle its ledger."""
        if events is None:
            with self.env.service.http() as http:
                events = load.ledger.check(http)
        log = self.env.service.log[self._log_read :]
        self._log_read += len(log)
        during = [a for a in load.answers if load.fault_start_s <= a.sent_s < load.fault_end_s]
        recovered_s = load.recovered_s()
        return DrillResult(
            name=name,
            requests=len(load.answers),
            answers=dict(sorted(load.outcomes().items())),
            label_ms=percentiles_ms([a.took_s for a in during if a.path == "/label"], SPREAD),
            rerank_ms=percentiles_ms([a.took_s for a in during if a.path == "/rerank"], SPREAD),
            recovered_s=None if recovered_s is None else round(recovered_s, 2),
            events=events,
            tracebacks=log.count("Traceback"),
            notes=notes,
        )


Drill = Callable[[str, DrillContext], DrillResult]


# --- the store


def _store_fault(inject: Callable[[Store], object], heal: Callable[[Store], object] = Store.heal) -> Drill:
    def drill(name: str, context: DrillContext) -> DrillResult:
        store = context.env.store
        with context.load() as load:
            load.during(partial(inject, store), partial(heal, store))
        return context.result(name, load)

    return drill


def _empty_store(name: str, context: DrillContext) -> DrillResult:
    """Killed and back empty: what it held is gone, what comes after must stay."""
    store, gone = context.env.store, []

    def start_empty() -> None:
        gone.append(load.ledger.acknowledged)
        load.ledger.forget()
        shutil.rmtree(store.folder)
        store.start()

    with context.load() as load:
        load.during(store.kill, start_empty)
    return context.result(name, load, gone_with_the_store=gone[0])


def _let_store_evict(name: str, context: DrillContext) -> DrillResult:
    """A store that may evict is reported from the start on; it has memory enough here, so nothing is lost."""
    env, reported = context.env, []

    def restart_with(policy: str) -> None:
        with Redis.from_url(env.store.server.url) as server:
            server.config_set("maxmemory-policy", policy)
        env.service.terminate()
        env.service.start()
        with env.service.http() as http:
            reported.append("store_policy" in degraded(http))

    with context.load() as load:
        load.during(partial(restart_with, "allkeys-lru"), partial(restart_with, "noeviction"))
    return context.result(name, load, reported=reported[0], cleared=not reported[1])


# --- bundles


def _promote(name: str, context: DrillContext) -> DrillResult:
    """Promote there and back, several times: no request may notice."""
    took_s = []
    bundles = BundleStore(context.env.bundles)
    with context.env.service.http() as http, context.load() as load:

        def promote() -> None:
            for number in range(2 * context.profile.repetitions):
                version = FIRST if number % 2 else SECOND
                start_s = time.monotonic()
                bundles.promote(version)
                wait_until(partial(_serves, http, version), f"serving {version}", WAIT_S)
                took_s.append(time.monotonic() - start_s)

        load.during(promote)
    return context.result(name, load, swaps=len(took_s), swapped_ms=percentiles_ms(took_s, SPREAD))


def _promote_broken(name: str, context: DrillContext) -> DrillResult:
    """Point `CURRENT` at a version with a truncated graph: the active one must go on."""
    folder = context.env.bundles
    shutil.copytree(folder / SECOND, folder / BROKEN)
    manifest, graph = folder / BROKEN / MANIFEST, folder / BROKEN / "ranker.onnx"
    manifest.write_text(manifest.read_text().replace(SECOND, BROKEN))
    graph.write_bytes(graph.read_bytes()[:-20])
    still_active = []
    with context.env.service.http() as http, context.load() as load:
        failed = counter(http, FAILED_RELOADS)

        def promote() -> None:
            (folder / "CURRENT").write_text(f"{BROKEN}\n")
            wait_until(lambda: counter(http, FAILED_RELOADS) > failed, f"refusing {BROKEN}", WAIT_S)
            still_active.append(_serves(http, FIRST))

        try:
            load.during(promote, lambda: BundleStore(folder).promote(FIRST))
        finally:
            (folder / "CURRENT").write_text(f"{FIRST}\n")
            shutil.rmtree(folder / BROKEN)
    return context.result(name, load, old_version_kept=still_active[0])


def _roll_back(name: str, context: DrillContext) -> DrillResult:
    """Activate and roll back by request; a restart must not bring the later version back."""
    took_s = []
    service = context.env.service
    with service.http() as http:

        def roll_back() -> None:
            for _ in range(context.profile.repetitions):
                http.post(f"/v1/models/{SECOND}:activate").raise_for_status()
                start_s = time.monotonic()
                reply = http.post("/v1/models:rollback").raise_for_status()
                took_s.append(time.monotonic() - start_s)
                assert reply.json()["model_version"] == FIRST

        with context.load() as load:
            load.during(roll_back)
        events = load.ledger.check(http)
    service.terminate()
    service.start()
    with service.http() as http:
        survives = _serves(http, FIRST)
    took_ms = percentiles_ms(took_s, SPREAD)
    return context.result(name, load, events, rolled_back_ms=took_ms, survives_a_restart=survives)


def _promote_endless(name: str, context: DrillContext) -> DrillResult:
    """Point `CURRENT` at a ranker that never ends: the active version answers, and SIGTERM ends all of it."""
    folder, service, notes = context.env.bundles, context.env.service, dict[str, Any]()
    write_endless(folder / SECOND, folder / BROKEN)
    with service.http() as http:
        failed = counter(http, FAILED_RELOADS)
    with context.load() as load:

        def restart() -> None:
            with service.http() as http:
                notes["still_loading"] = counter(http, FAILED_RELOADS) == failed
            start_s = time.monotonic()
            notes["exit_code"] = service.terminate()
            notes["ended_s"] = round(time.monotonic() - start_s, 2)
            (folder / "CURRENT").write_text(f"{FIRST}\n")
            service.start()

        try:
            load.during(lambda: (folder / "CURRENT").write_text(f"{BROKEN}\n"), restart)
        finally:
            (folder / "CURRENT").write_text(f"{FIRST}\n")
            shutil.rmtree(folder / BROKEN)
    versions = {answer.reply["model_version"] for answer in load.answers if answer.reply}
    return context.result(name, load, old_version_kept=versions == {FIRST}, **notes)


def _serves(http: httpx2.Client, version: str) -> bool:
    return bool(http.get("/health/ready").json().get("model_version") == version)


def counter(http: httpx2.Client, series: str) -> float:
    """Return the value of a series of /metrics; 0 while there is none."""
    lines = (line for line in http.get("/metrics").text.splitlines() if line.startswith(f"{series} "))
    return float(next(lines, "0").rpartition(" ")[2])


def degraded(http: httpx2.Client) -> list[str]:
    """Return what readiness reports as degraded."""
    return list(http.get("/health/ready").json()["degraded"])


# --- processes


def _terminate(name: str, context: DrillContext) -> DrillResult:
    """SIGTERM: requests in flight are answered, then it ends; and it is started again."""
    notes: dict[str, Any] = {}
    service = context.env.service
    with context.load() as load:

        def terminate() -> None:
            start_s = time.monotonic()
            notes["exit_code"] = service.terminate()
            notes["ended_s"] = round(time.monotonic() - start_s, 2)

        load.during(terminate, service.start)
    in_flight = [a for a in load.answers if a.sent_s < load.fault_start_s - SENT_JUST_BEFORE_S]
    dropped = sum(answer.outcome in ("broken", "timed out", "refused") for answer in in_flight)
    return context.result(name, load, **notes, dropped=dropped)


def _kill_service(name: str, context: DrillContext) -> DrillResult:
    """SIGKILL; the embedded store ends with it. Requests in flight are lost, events are not."""
    with context.load() as load:
        load.during(context.env.service.kill, context.env.service.start)
    return context.result(name, load)


def _kill_worker(name: str, context: DrillContext) -> DrillResult:
    """SIGKILL of one of two workers: the other one goes on, and a new one replaces it."""
    service, replaced_s = context.env.service, []

    def kill() -> None:
        before, start_s = service.workers(), time.monotonic()
        os.kill(before[0], signal.SIGKILL)

        def replaced() -> bool:
            now = service.workers()
            return before[0] not in now and len(now) == len(before)

        wait_until(replaced, "a new worker", WAIT_S)
        replaced_s.append(time.monotonic() - start_s)

    with context.load() as load:
        load.during(kill)
    return context.result(name, load, replaced_s=round(replaced_s[0], 2))


def kill_repeatedly(name: str, context: DrillContext) -> DrillResult:
    """Kill service and store at once, the service, the store, and so on, under closed loops of labels."""
    service, store, profile = context.env.service, context.env.store, context.profile
    ways = itertools.cycle([[store, service], [service], [store]])
    with context.load(senders=KILL_SENDERS, events=KILL_BATCH) as load:

        def acknowledge(events: float) -> None:
            wait_until(lambda: load.ledger.acknowledged >= events, f"{events:.0f} events", KILL_WAIT_S)

        load.fault_start_s = time.monotonic()
        for number in range(profile.kills):
            acknowledge(profile.events * (number + 1) / (profile.kills + 1))
            targets: Any = next(ways)
            for target in targets:
                target.kill()
            for target in targets:
                target.start()
        acknowledge(profile.events)
        load.fault_end_s = time.monotonic()
        rate = load.ledger.acknowledged / (load.fault_end_s - load.fault_start_s)
        load.wait_until_recovered()
    return context.result(name, load, kills=profile.kills, events_per_s=round(rate))


STORE_DRILLS: Final[dict[str, Drill]] = {
    "store refused": _store_fault(lambda store: store.proxy.refuse()),
    # The kernel takes connections and bytes, and nothing answers.
    "store frozen": _store_fault(lambda store: store.signal(signal.SIGSTOP)),
    "store half-open": _store_fault(lambda store: store.proxy.half_open()),
    "store 5 ms slower": _store_fault(lambda store: store.proxy.delay(0.005 / 2)),
    "store 50 ms slower": _store_fault(lambda store: store.proxy.delay(0.050 / 2)),
    "store trickles": _store_fault(lambda store: store.proxy.trickle(TRICKLE_BYTES_PER_S)),
    "store killed": _store_fault(Store.kill, Store.start),
    "store emptied": _empty_store,
    "store evicts": _let_store_evict,
}
"""A delay of the proxy is per direction: an answer comes twice that later."""
BUNDLE_DRILLS: Final[dict[str, Drill]] = {
    "bundle promoted": _promote,
    "bad bundle promoted": _promote_broken,
    "bundle rolled back": _roll_back,
    "endless graph": _promote_endless,
}
PROCESS_DRILLS: Final[dict[str, Drill]] = {"SIGTERM": _terminate, "service killed": _kill_service}
WORKER_DRILLS: Final[dict[str, Drill]] = {"worker killed": _kill_worker}
