"""Kills, again and again, under as many events as are taken; then every single one is looked for."""

from __future__ import annotations

import itertools
import time
from typing import Final

from loadtests.faults import store
from loadtests.faults.load import Load
from loadtests.faults.report import Row
from loadtests.faults.stage import Stage

SENDERS: Final = 6
EVENTS: Final = 50
"""Of one body."""
PATIENCE_S: Final = 120.0
"""For the events between two kills."""


def through_kills(name: str, stage: Stage) -> Row:
    """Service and store are killed together, then the service alone, then the store alone, and so on."""
    pace = stage.pace
    ways = itertools.cycle((_kill_both, _kill_service, _kill_store))
    with stage.load(senders=SENDERS, events=EVENTS) as load:
        load.began_s = started = time.monotonic()
        for number, way in zip(range(pace.kills), ways, strict=False):
            _until_acknowledged(load, pace.events * (number + 1) // (pace.kills + 1))
            way(stage)
        _until_acknowledged(load, pace.events)
        took = time.monotonic() - started
        load.ended_s = time.monotonic()
        load.until_quiet()
    return stage.row(name, load, kills=pace.kills, events_per_s=round(load.ledger.acknowledged / took))


def _until_acknowledged(load: Load, events: int) -> None:
    """Raises:
    TimeoutError: so many are not acknowledged in time.
    """
    end = time.monotonic() + PATIENCE_S
    while load.ledger.acknowledged < events:
        if time.monotonic() > end:
            raise TimeoutError(f"{load.ledger.acknowledged} of {events} events after {PATIENCE_S:g} s")
        time.sleep(0.005)


def _kill_both(stage: Stage) -> None:
    store.kill(stage)
    stage.program.kill()
    stage.store.start()
    stage.program.start()


def _kill_service(stage: Stage) -> None:
    stage.program.kill()
    stage.program.start()


def _kill_store(stage: Stage) -> None:
    store.kill(stage)
    stage.store.start()
