"""How the processes themselves are doing: build, processor, memory, and whether the event loop keeps up."""

from __future__ import annotations

import os
import platform
import sys
from collections import deque
from pathlib import Path
from typing import Final

import onnxruntime
from prometheus_client import CollectorRegistry, Counter, Gauge

BEATS: Final = 4
"""How often a second `beat` is called. Memory and processor time are read once a second."""

REMEMBERED_BEATS: Final = 10 * BEATS
"""`reelrank_loop_lag_seconds` is the worst of these: 10 s."""

STATM: Final = Path("/proc/self/statm")


class ProcessMetrics:
    """One process' part. prometheus_client's own collectors see only the process that is asked.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._build = Gauge(
            "reelrank_build_info",
            "1, for the build that runs.",
            ["version", "python", "onnxruntime"],
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._workers = Gauge(
            "reelrank_workers", "Processes that serve.", multiprocess_mode="livesum", registry=registry
        )
        self._cpu = Counter(
            "reelrank_process_cpu_seconds",
            "Processor time, user and system, of all workers since the start.",
            registry=registry,
        )
        self._resident = Gauge(
            "reelrank_process_resident_bytes",
            "Resident memory of the workers together; what they share counts once for each.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._lag = Gauge(
            "reelrank_loop_lag_seconds",
            "How late the event loop was at worst within the last 10 s, of the worst worker.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._late: deque[float] = deque(maxlen=REMEMBERED_BEATS)
        self._beats = 0
        self._used_s = 0.0

    def started(self, version: str) -> None:
        """This process serves from now on."""
        self._build.labels(version, platform.python_version(), onnxruntime.__version__).set(1)
        self._workers.set(1)
        self.look()

    def beat(self, late_s: float) -> bool:
        """To be called `BEATS` times a second on the event loop.

        Args:
            late_s: how late the loop was at worst since the last call.

        Returns:
            Whether a second has passed, for what else is done once a second.
        """
        self._late.append(late_s)
        self._beats = (self._beats + 1) % BEATS
        if self._beats:
            return False
        self.look()
        return True

    def look(self) -> None:
        """Read processor time, memory and lag."""
        times = os.times()
        used_s = times.user + times.system
        self._cpu.inc(max(0.0, used_s - self._used_s))
        self._used_s = used_s
        self._resident.set(_resident_bytes())
        self._lag.set(max(self._late, default=0.0))


def _resident_bytes() -> int:
    if STATM.exists():
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource  # elsewhere: only the most there ever was is known

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
