"""Faults of the store, and of the way to it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from typing import Final

from loadtests.faults.proxy import FaultProxy
from loadtests.faults.report import Row
from loadtests.faults.stage import Scenario, Stage

TRICKLE_BYTES_PER_S: Final = 200.0


def _proxied(fault: Callable[[FaultProxy], object]) -> Scenario:
    """A fault of the proxy, and its healing."""

    def play(name: str, stage: Stage) -> Row:
        with stage.load() as load:
            try:
                load.during(lambda: fault(stage.proxy), stage.proxy.heal)
            finally:
                stage.proxy.heal()
        return stage.row(name, load)

    return play


def _frozen(name: str, stage: Stage) -> Row:
    """The store takes connections and bytes, because its kernel does, and answers nothing."""
    pid = stage.store.pid
    assert pid is not None
    with stage.load() as load:
        try:
            load.during(partial(os.kill, pid, signal.SIGSTOP), partial(os.kill, pid, signal.SIGCONT))
        finally:
            os.kill(pid, signal.SIGCONT)
    return stage.row(name, load)


def kill(stage: Stage) -> None:
    """SIGKILL of the store."""
    assert stage.store.pid is not None
    os.kill(stage.store.pid, signal.SIGKILL)
    stage.store.stop()


def _killed(name: str, stage: Stage) -> Row:
    """The store dies under load and comes back with its data."""
    with stage.load() as load:
        load.during(partial(kill, stage), stage.store.start)
    return stage.row(name, load)


def _emptied(name: str, stage: Stage) -> Row:
    """The store dies and comes back with nothing: what it held is gone, what comes after must stay."""
    gone: list[int] = []

    def start_empty() -> None:
        assert stage.outside is not None
        gone.append(load.ledger.acknowledged)
        load.ledger.forget()
        shutil.rmtree(stage.outside.folder)
        stage.store.start()

    with stage.load() as load:
        load.during(partial(kill, stage), start_empty)
    return stage.row(name, load, gone_with_the_store=gone[0])


SCENARIOS: Final[dict[str, Scenario]] = {
    "store refused": _proxied(FaultProxy.refuse),
    "store frozen": _frozen,
    "store half-open": _proxied(FaultProxy.half_open),
    "store 5 ms slower": _proxied(lambda proxy: proxy.delay(0.005 / 2)),
    "store 50 ms slower": _proxied(lambda proxy: proxy.delay(0.050 / 2)),
    "store trickles": _proxied(lambda proxy: proxy.trickle(TRICKLE_BYTES_PER_S)),
    "store killed": _killed,
    "store emptied": _emptied,
}
"""The delay of the proxy is per direction: an answer comes twice that later."""
