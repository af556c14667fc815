"""Processes that end: asked to, or killed."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, Final

from loadtests.faults.load import Load
from loadtests.faults.report import Row
from loadtests.faults.stage import Scenario, Stage
from loadtests.machine import children

WAIT_S: Final = 20.0
JUST_S: Final = 0.05
"""A request that left this shortly before a signal may arrive after the listening socket has gone."""


def _terminated(name: str, stage: Stage) -> Row:
    """SIGTERM: what is in flight is answered, then it ends; and it comes back."""
    ended: dict[str, Any] = {}
    with stage.load() as load:

        def terminate() -> None:
            started = time.monotonic()
            ended["exit_code"] = stage.program.terminate()
            ended["ended_s"] = round(time.monotonic() - started, 2)

        load.during(terminate, stage.program.start)
    return stage.row(name, load, **ended, dropped=_dropped(load))


def _killed(name: str, stage: Stage) -> Row:
    """SIGKILL of the service; its own store follows it. Requests in flight are lost, events are not."""
    with stage.load() as load:
        load.during(stage.program.kill, stage.program.start)
    return stage.row(name, load)


def _worker_killed(name: str, stage: Stage) -> Row:
    """SIGKILL of one of two workers: the other goes on, and there are two again."""
    replaced: list[float] = []

    def kill() -> None:
        before = _workers(stage)
        victim = before[0]
        started = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        while victim in (now := _workers(stage)) or len(now) < len(before):
            if time.monotonic() > started + WAIT_S:
                raise TimeoutError(f"the worker was not replaced within {WAIT_S:g} s")
            time.sleep(0.02)
        replaced.append(time.monotonic() - started)

    with stage.load() as load:
        load.during(kill)
    return stage.row(name, load, replaced_s=round(replaced[0], 2))


def _workers(stage: Stage) -> list[int]:
    return [pid for pid, called in children(stage.program.pid).items() if "spawn_main" in called]


def _dropped(load: Load) -> int:
    """Requests that were in flight at the signal and got no answer."""
    before = (a for a in load.answers if a.sent_s < load.began_s - JUST_S)
    return sum(a.outcome in ("broken", "timed out", "refused") for a in before)


SCENARIOS: Final[dict[str, Scenario]] = {"SIGTERM": _terminated, "service killed": _killed}
OF_WORKERS: Final[dict[str, Scenario]] = {"worker killed": _worker_killed}
