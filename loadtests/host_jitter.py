"""Scheduler jitter of this host: how long a core stands still with nothing to do (steal time, hyper-threads).

No service on the host can answer sooner. One process per core reads the clock in a loop and records the gaps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Final

MIN_GAP_S: Final = 0.5e-3
"""Shorter gaps are interrupts."""


def measure_jitter(seconds: float) -> dict[str, float]:
    """Return `share` of the time in which a core stood still, and `longest_ms`, over all cores at once."""
    command = [sys.executable, __file__, str(seconds)]
    watchers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(os.cpu_count() or 1)]
    cores = [json.loads(watcher.communicate()[0]) for watcher in watchers]
    return {
        "share": round(sum(core["share"] for core in cores) / len(cores), 4),
        "longest_ms": max(core["longest_ms"] for core in cores),
    }


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


if __name__ == "__main__":
    print(json.dumps(watch_clock(float(sys.argv[1]))))
