"""What is asked of a service that has something else to bear: a start, a swap, a slow store, a crowd."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Final

from loadtests.faults.stage import SECOND
from loadtests.load.bare import OneConnection
from loadtests.load.connections import patient
from loadtests.load.figures import by_second, curve, figures
from loadtests.load.scenarios import HALF, Figures, at, at_most_and_half
from loadtests.load.stage import SEED, Pace, Stage
from loadtests.load.traffic import Traffic
from loadtests.program import Program
from models.runtime import Bundle
from models.store import BundleStore

DELAY_S: Final = 0.005
LATER: Final = 100
"""Requests after the first, that it is compared with."""
TWICE: Final = 2.0


def start(version: Path, pace: Pace) -> Figures:
    """How long until it answers, and what the first request pays for being the first.

    One more start comes before and is not counted: the first one of a checkout compiles its modules.
    """
    ready: list[float] = []
    first: list[float] = []
    median: list[float] = []
    videos = list(Bundle.load(version).vocabulary.id_to_index("video_id"))
    requests = [patient(slate) for slate in Traffic(SEED, pace.users, videos).slates(LATER + 1, 200)]
    for number in range(pace.starts + 1):
        with tempfile.TemporaryDirectory(prefix="load-") as data:
            began = time.perf_counter()
            with Program(version, Path(data)) as program:
                with urllib.request.urlopen(f"{program.url}/health/ready", timeout=10):
                    took_s = time.perf_counter() - began
                host, _, port = program.url.removeprefix("http://").rpartition(":")
                with OneConnection((host, int(port))) as connection:
                    asked = [connection.ask(request) for request in requests]
        if number:
            ready.append(took_s)
            first.append(asked[0])
            median.append(statistics.median(asked[1:]))
    return {
        "starts": pace.starts,
        "ready_s": round(statistics.median(ready), 3),
        "first_ms": round(statistics.median(first) * 1e3, 3),
        "later_ms": round(statistics.median(median) * 1e3, 3),
        "first_times_later": round(statistics.median(f / m for f, m in zip(first, median, strict=True)), 2),
    }


def reload(on: Stage) -> Figures:
    """Another version is promoted, and then rolled back, while slates are asked for at half capacity."""
    requests = on.traffic.slates(on.pace.slates, 200)
    most = on.most(requests)
    quiet = at(on, requests, most * HALF)
    failed: list[str] = []

    def swap() -> None:
        try:
            time.sleep(on.pace.seconds / 3)
            BundleStore(on.bundles).promote(SECOND)
            time.sleep(on.pace.seconds / 3)
            urllib.request.urlopen(
                urllib.request.Request(f"{on.program.url}/v1/models:rollback", method="POST"), timeout=10
            ).close()
        except Exception as e:  # told with the figures; nobody would see it in a thread
            failed.append(repr(e))

    other = threading.Thread(target=swap, daemon=True)
    other.start()
    during = at(on, requests, most * HALF)
    other.join()
    return {
        "most": round(most, 1),
        "quiet": quiet,
        "half": during,
        "p99_ratio": _ratio(during, quiet),
        "failed": round(during["errors"] * during["requests"]),
        "swaps_failed": failed,
    }


def delayed_store(on: Stage) -> Figures:
    """Every byte from and to the store comes 5 ms late."""
    assert on.proxy is not None
    requests = on.traffic.slates(on.pace.slates, 200)
    on.proxy.delay(DELAY_S)
    try:
        return at_most_and_half(on, requests)
    finally:
        on.proxy.heal()


def overload(on: Stage) -> Figures:
    """Twice as many slates as it carries at most. That is measured before and after, and the mean counts:
    a machine that others use is not the same for long."""
    requests = on.traffic.slates(on.pace.slates, 200)
    before = on.most(requests)
    half = at(on, requests, before * HALF)
    run = on.drive(requests, before * TWICE)
    after = on.most(requests)
    twice, most = figures(run), (before + after) / 2
    return {
        "most": round(most, 1),
        "half": half,
        "twice": twice | {"curve": curve(run)},
        "by_second": by_second(run),
        "times_most": round(twice["rate"] / most, 2),
        "goodput_share": round(twice["goodput"] / most, 3),
        "p99_ratio": _ratio(twice, half),
        "neither_good_nor_refused": twice["errors"],
    }


def _ratio(found: Figures, quiet: Figures) -> float | None:
    """Of the two p99, or `None` where one has no good answer."""
    if not found["ms"] or not quiet["ms"]:
        return None
    return round(float(found["ms"]["p99"] / quiet["ms"]["p99"]), 2)
