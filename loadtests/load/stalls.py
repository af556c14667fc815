"""How long this machine stands still by itself: no service on it answers sooner.

A processor that is lent (by a host that runs other machines, or hyper-threads of them) is away at times, and
whatever ran on it waits. What does nothing but read the clock, once for each core, sees by how much.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from time import perf_counter
from typing import Final

SECONDS: Final = 3.0
"""Of a full run."""
LEAST_S: Final = 0.5e-3
"""Shorter ones are interrupts."""


def stalls(seconds: float) -> dict[str, float]:
    """Look at the clock on every core at once.

    Returns:
        `share` of the time in which a core stood still for longer than `LEAST_S`, and `longest_ms`.
    """
    command = [sys.executable, __file__, str(seconds)]
    watchers = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(os.cpu_count() or 1)]
    found = [json.loads(watcher.communicate()[0]) for watcher in watchers]
    return {
        "share": round(sum(each["share"] for each in found) / len(found), 4),
        "longest_ms": max(each["longest_ms"] for each in found),
    }


def watch(seconds: float, clock: Callable[[], float] = perf_counter) -> dict[str, float]:
    """The same of this process, on whatever core it is."""
    gone_s = longest_s = 0.0
    last_s = began_s = clock()
    while last_s - began_s < seconds:
        now_s = clock()
        gap_s, last_s = now_s - last_s, now_s
        if gap_s > LEAST_S:
            gone_s += gap_s
            longest_s = max(longest_s, gap_s)
    return {"share": gone_s / (last_s - began_s), "longest_ms": round(longest_s * 1e3, 1)}


if __name__ == "__main__":
    print(json.dumps(watch(float(sys.argv[1]))))
