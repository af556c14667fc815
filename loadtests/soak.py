"""`python -m loadtests.soak`: constant load for a long time; checks for memory growth and latency drift.

A closed loop of a few seconds measures the maximum throughput; then comes a share of it at a constant rate.
Users are a fixed set, so what the service stores of them stops growing; events are new all the time.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from loadtests.command import BundleOption, log_progress, make_app, print_report, run
from loadtests.driver import Requests, Run, drive, saturate, summarize
from loadtests.environment import Service, version_folder
from loadtests.host import rss_mib
from loadtests.traffic import Traffic
from models.arrays import F64
from models.runtime import Bundle

SEED: Final = 23
USERS: Final = 200
SLATES: Final = 500
CANDIDATES: Final = 200
SATURATE_S: Final = 5.0
SAMPLES: Final = 1000
"""Memory samples at most, and at least a second apart."""
WARM_UP: Final = 0.2
"""Share of the time in which caches and sequences fill; it is left out of slopes and drifts."""


@dataclass
class MemorySamples:
    """Resident memory over time in MiB; NaN where it cannot be read."""

    time_s: list[float] = field(default_factory=list)
    service: list[float] = field(default_factory=list)
    store: list[float] = field(default_factory=list)

    def add(self, service: Service, time_s: float) -> None:
        """Add a sample."""
        self.time_s.append(time_s)
        self.service.append(rss_mib(service.pid) or float("nan"))
        self.store.append(sum(rss_mib(pid) or 0.0 for pid in service.store_pids()) or float("nan"))


def main(
    minutes: Annotated[float, typer.Option(min=0.02, max=24 * 60, help="Of constant load.")] = 30.0,
    share: Annotated[float, typer.Option(min=0.01, max=1.0, help="Of the maximum throughput.")] = 0.5,
    bundle: BundleOption = None,
) -> None:
    """Load one worker with an embedded store for a long time and print slopes as JSON."""
    with tempfile.TemporaryDirectory() as data_dir:
        version = version_folder(bundle)
        with Service(version, Path(data_dir)) as service:
            figures = soak(service, alternating_requests(Bundle.load(version)), minutes * 60, share)
    command = f"python -m loadtests.soak --minutes {minutes:g} --share {share:g}"
    print_report(command, {"figures": figures})


def alternating_requests(bundle: Bundle) -> Requests:
    """Return a source of requests: a new event, then a slate, and so on, made when they are sent."""
    traffic = Traffic(SEED, USERS, list(bundle.vocabulary.id_to_index("video_id")))
    slates = traffic.slates(SLATES, CANDIDATES)
    return lambda number: slates[number // 2 % SLATES] if number % 2 else traffic.feedback(1)[0]


def soak(service: Service, requests: Requests, seconds: float, share: float) -> dict[str, Any]:
    """Measure the maximum throughput, then load the service with a share of it for so many seconds."""
    log_progress("soak", f"maximum throughput, {SATURATE_S:g} s")
    throughput, _ = saturate(service.address, requests, seconds=SATURATE_S)
    rate = share * throughput
    log_progress("soak", f"{throughput:.0f} requests/s; now {rate:.0f}/s for {seconds / 60:g} min")
    with sample_memory(service, max(1.0, seconds / SAMPLES)) as memory:
        run = drive(service.address, requests, np.arange(max(2, round(rate * seconds))) / rate)
    figures = {"capacity_requests_per_s": round(throughput, 1), "seconds": seconds}
    return figures | slopes_and_drifts(run, memory, seconds)


def slopes_and_drifts(run: Run, memory: MemorySamples, seconds: float) -> dict[str, Any]:
    """Return the figures of a run and its slopes and drifts after the warm-up.

    Args:
        run: in which every second request is a slate.
        memory: sampled during it.
        seconds: its duration.
    """
    time_s = np.array(memory.time_s)
    warm = time_s >= WARM_UP * seconds
    slates = np.zeros(len(run.status), bool)
    slates[1::2] = True
    good = slates & (run.status == 200) & (run.due_s >= WARM_UP * seconds)
    second = run.due_s >= (1 + WARM_UP) / 2 * seconds
    first_ms, second_ms = (_median_ms(run.latency_s[good & half]) for half in (~second, second))
    return summarize(run) | {
        "rss_mib": {"start": memory.service[0], "end": memory.service[-1]},
        "rss_slope_mib_per_h": slope(time_s[warm] / 3600, np.array(memory.service)[warm]),
        "store_rss_slope_mib_per_h": slope(time_s[warm] / 3600, np.array(memory.store)[warm]),
        "rerank_p50_ms": {"first_half": first_ms, "second_half": second_ms},
        "rerank_p50_drift": round(second_ms / first_ms - 1, 4) if first_ms and second_ms else None,
    }


def slope(x: F64, y: F64, digits: int = 2) -> float | None:
    """Return the slope of the least-squares line; `None` of fewer than three points or with a NaN."""
    if len(x) < 3 or not np.isfinite(y).all():
        return None
    return round(float(np.polyfit(x, y, 1)[0]), digits)


@contextmanager
def sample_memory(service: Service, interval_s: float) -> Iterator[MemorySamples]:
    """Sample memory from a thread, at the beginning, in between, and at the end."""
    memory, start_s, ended = MemorySamples(), time.monotonic(), threading.Event()

    def sample() -> None:
        memory.add(service, time.monotonic() - start_s)
        while not ended.wait(interval_s):
            memory.add(service, time.monotonic() - start_s)

    thread = threading.Thread(target=sample, name="memory", daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        ended.set()
        thread.join()
        memory.add(service, time.monotonic() - start_s)


def _median_ms(seconds: F64) -> float | None:
    return round(float(np.median(seconds)) * 1e3, 3) if len(seconds) else None


app = make_app("soak", main)

if __name__ == "__main__":
    run(app)
