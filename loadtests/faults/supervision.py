"""Drills of what a service must get over by itself: its store, its folder or its descriptors are gone."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import time
from functools import partial
from typing import Any, Final

from loadtests.driver import SPREAD, percentiles_ms
from loadtests.environment import SECOND, wait_until
from loadtests.faults.drills import WAIT_S, Drill, DrillContext, DrillResult, counter, degraded
from loadtests.report import STORE_KILLED

STORE_KILLS: Final = 5
SPARE_DESCRIPTORS: Final = 20
"""That the process may still open when its limit is lowered; twice as many idle connections take them."""


def _kill_store(name: str, context: DrillContext) -> DrillResult:
    """SIGKILL of the embedded store, several times: the service starts it again."""
    service, back_s, reported = context.env.service, [], False
    with service.http() as http, context.load() as load:
        restarts = counter(http, "reelrank_store_restarts_total")

        def kill() -> None:
            nonlocal reported
            for _ in range(STORE_KILLS):
                start_s = time.monotonic()
                os.kill(service.store_pids()[0], signal.SIGKILL)
                reported = "store" in degraded(http)  # the last time, when the pause is longest
                wait_until(partial(load.acknowledges, start_s), "a label", WAIT_S)
                back_s.append(time.monotonic() - start_s)

        load.during(kill)
        counted = counter(http, "reelrank_store_restarts_total") - restarts == STORE_KILLS
        load_s = time.monotonic() - load.fault_start_s + context.profile.before_s
        rate = load.ledger.acknowledged / (load_s - sum(back_s))  # while there was a store to lose them
    notes: dict[str, Any] = {
        "kills": STORE_KILLS,
        "reported": reported,
        "all_counted": counted,
        "events_per_s": round(rate),
    }
    return context.result(name, load, labels_again_ms=percentiles_ms(back_s, SPREAD), **notes)


def _remove_folder(name: str, context: DrillContext) -> DrillResult:
    """Delete the data folder: events are refused and slates go on, until a restart that begins empty."""
    service, notes = context.env.service, dict[str, Any]()
    with context.load() as load:

        def remove() -> None:
            shutil.rmtree(context.env.data)
            start_s = time.monotonic()
            with service.http() as http:
                wait_until(lambda: "store_writes" in degraded(http), "degraded", WAIT_S)
            notes["noticed_ms"] = round(1e3 * (time.monotonic() - start_s))

        def restart() -> None:
            notes["none_acknowledged"] = not load.acknowledges(load.fault_start_s + 1.0)
            notes["gone_with_the_folder"] = load.ledger.acknowledged
            load.ledger.forget()
            service.terminate()
            service.start()

        load.during(remove, restart)
    return context.result(name, load, **notes)


def _exhaust_descriptors(name: str, context: DrillContext) -> DrillResult:
    """Idle connections take the last file descriptors; what is served goes on, and so does a rollout."""
    service = context.env.service
    limit = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as idle, service.http() as http, context.load() as load:
        http.post(f"/v1/models/{SECOND}:split", json={"share": 1.0}).raise_for_status()

        def exhaust() -> None:
            used = len(os.listdir(f"/proc/{service.pid}/fd"))
            resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (used + SPARE_DESCRIPTORS, limit[1]))
            for _ in range(2 * SPARE_DESCRIPTORS):
                with contextlib.suppress(OSError):
                    idle.enter_context(socket.create_connection(service.address))

        def heal() -> None:
            idle.close()
            resource.prlimit(service.pid, resource.RLIMIT_NOFILE, limit)

        try:
            load.during(exhaust, heal)
        finally:
            heal()
            http.post(f"/v1/models/{SECOND}:split", json={"share": 0.0}).raise_for_status()
    during = [a for a in load.answers if load.fault_start_s < a.sent_s < load.fault_end_s]
    versions = {answer.reply["model_version"] for answer in during if answer.reply}
    notes: dict[str, Any] = {
        "exhausted": "Too many open files" in service.log,
        "rollout_kept": versions == {SECOND},
    }
    return context.result(name, load, idle=2 * SPARE_DESCRIPTORS, **notes)


SUPERVISION_DRILLS: Final[dict[str, Drill]] = {
    STORE_KILLED: _kill_store,
    "data folder deleted": _remove_folder,
    "descriptors exhausted": _exhaust_descriptors,
}
