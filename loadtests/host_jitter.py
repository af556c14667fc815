"""Scheduler jitter of this host: how long a core stands still with nothing to do (steal time, hyper-threads).

No service on the host can answer sooner. One process a core reads the clock in a loop and records the gaps.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from time import perf_counter
from typing import Final

MIN_GAP_S: Final = 0.5e-3
"""Shorter gaps are interrupts."""


def measure_jitter(seconds: float) -> dict[str, float]:
    """Return `share` of the time in which a core stood still, and `longest_ms`, over all cores at once."""
    count = os.cpu_count() or 1
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        cores = list(pool.map(watch_clock, [seconds] * count))
    share = round(sum(core["share"] for core in cores) / count, 4)
    return {"share": share, "longest_ms": max(core["longest_ms"] for core in cores)}


def watch_clock(seconds: float, clock: Callable[[], float] = perf_counter) -> dict[str, float]:
    """Return `share` and `longest_ms` of this process, on whatever core it runs."""
    stalled_s = longest_s = 0.0
    last_s = start_s = clock()
    while last_s - start_s < seconds:
        now_s = clock()
        gap_s, last_s = now_s - last_s, now_s
        if gap_s > MIN_GAP_S:
            stalled_s += gap_s
            longest_s = max(longest_s, gap_s)
    return {"share": stalled_s / (last_s - start_s), "longest_ms": round(longest_s * 1e3, 1)}
