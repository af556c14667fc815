"""What is asked of the service, scenario by scenario. Each returns figures; none asserts anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from loadtests.faults.stage import FIRST, SECOND
from loadtests.load.figures import figures, within
from loadtests.load.stage import Pace, Stage, stage
from models.store import BundleStore

P99_MS: Final = 10.0
ERRORS: Final = 0.001
"""The objective a capacity is searched for: p99 and the share of errors."""

SLATES: Final = (50, 200, 500, 2000)
HALF: Final = 0.5
"""Of what it carries at most: the load at which latencies are told."""
DELAY_S: Final = 0.005

Figures = dict[str, Any]
Scenario = Callable[[Stage], Figures]


def capacity(play: Stage, requests: list[bytes], most: float) -> float | None:
    """The highest rate at which p99 and errors keep to the objective, by bisection below `most`.

    Returns:
        Requests a second; `None` if even the lowest rate tried did not keep to it.
    """
    low, high, found = 0.0, most, None
    for _ in range(play.pace.steps):
        rate = (low + high) / 2
        if within(play.at(requests, rate), p99_ms=P99_MS, errors=ERRORS):
            low = found = rate
        else:
            high = rate
    return None if found is None else round(found, 1)


def rerank(candidates: int) -> Scenario:
    """Slates of that many candidates, users with histories by zeal."""

    def play(on: Stage) -> Figures:
        requests = on.traffic.slates(on.pace.slates, candidates)
        most = on.most(requests)
        return {
            "most": round(most, 1),
            "capacity": capacity(on, requests, most),
            "half": on.at(requests, most * HALF),
        }

    return play


def cold_users(on: Stage) -> Figures:
    """Slates of users nobody has met."""
    requests = on.traffic.slates(on.pace.slates, 200, known=False)
    most = on.most(requests)
    return {"most": round(most, 1), "half": on.at(requests, most * HALF)}


def label(events: int) -> Scenario:
    """New exposures in bodies of that many."""

    def play(on: Stage) -> Figures:
        rng_bodies = max(50, on.pace.slates * 2 // max(1, events // 10))
        most = on.most(on.traffic.feedback(rng_bodies, events))
        seconds = on.pace.seconds
        fresh = on.traffic.feedback(max(1, round(most * HALF * seconds)), events)
        return {
            "most": round(most, 1),
            "events_per_s": round(most * events),
            "half": on.at(fresh, most * HALF),
        }

    return play


def mixed(on: Stage) -> Figures:
    """Nine slates to one exposure."""
    slates = on.traffic.slates(on.pace.slates, 200)
    requests = on.traffic.mixed(slates, on.traffic.feedback(on.pace.slates // 5))
    most = on.most(requests)
    return {"most": round(most, 1), "half": on.at(requests, most * HALF)}


def reload(on: Stage) -> Figures:
    """Another version is promoted, and then again the first, while slates are asked for at half capacity."""
    requests = on.traffic.slates(on.pace.slates, 200)
    most = on.most(requests)
    store = BundleStore(on.bundles)
    quiet = on.at(requests, most * HALF)

    def promote() -> None:
        for version in (SECOND, FIRST):
            time.sleep(on.pace.seconds / 3)
            store.promote(version)

    other = threading.Thread(target=promote, daemon=True)
    other.start()
    run = on.drive(requests, most * HALF)
    other.join()
    during = figures(run)
    return {
        "quiet": quiet,
        "during": during,
        "p99_ratio": round(during["ms"]["p99"] / quiet["ms"]["p99"], 2),
        "failed": round(during["errors"] * during["requests"]),
    }


def delayed_store(on: Stage) -> Figures:
    """Every byte from and to the store comes 5 ms late."""
    assert on.proxy is not None
    requests = on.traffic.slates(on.pace.slates, 200)
    on.proxy.delay(DELAY_S)
    try:
        most = on.most(requests)
        return {"most": round(most, 1), "half": on.at(requests, most * HALF)}
    finally:
        on.proxy.heal()


def overload(on: Stage) -> Figures:
    """Twice as many slates as it carries at most."""
    requests = on.traffic.slates(on.pace.slates, 200)
    most = on.most(requests)
    half, twice = on.at(requests, most * HALF), on.at(requests, most * 2)
    return {
        "most": round(most, 1),
        "twice": twice,
        "goodput_share": round(twice["goodput"] / most, 3),
        "p99_ratio": round(twice["ms"]["p99"] / half["ms"]["p99"], 2) if twice["ms"] else None,
    }


SCENARIOS: Final[dict[str, Scenario]] = {
    **{f"rerank {n}": rerank(n) for n in SLATES},
    "rerank 200, users nobody has met": cold_users,
    "label 1": label(1),
    "label 100": label(100),
    "mixed": mixed,
    "reload under load": reload,
    "store 5 ms late": delayed_store,
    "twice the capacity": overload,
}
"""By the name they have in the table."""

DELAYED: Final = {"store 5 ms late"}
"""Those that need a proxy before the store."""


def play(name: str, version: Path, pace: Pace) -> Figures:
    """One scenario on a stage of its own.

    Raises:
        ProgramFailed: the service did not come up.
    """
    with stage(version, pace, delayed=name in DELAYED) as on:
        return SCENARIOS[name](on)
