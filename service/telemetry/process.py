"""Metrics of the processes themselves: build, CPU, memory, and event-loop lag.

prometheus_client has a collector of a process' CPU and memory; with several workers it would report only the
one that is scraped.
"""

from __future__ import annotations

import os
import platform
import sys
from collections import deque
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import onnxruntime
from prometheus_client import CollectorRegistry, Counter, Gauge

REPORTS_PER_S: Final = 4
"""How often `report_lag` is called. Memory and CPU time are read once a second."""

LAG_WINDOW_S: Final = 10
"""`reelrank_loop_lag_seconds` is the worst lag within it."""

STATM: Final = Path("/proc/self/statm")


class ProcessMetrics:
    """The metrics of one process.

    Args:
        registry: where they are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        summed = partial(Gauge, registry=registry, multiprocess_mode="livesum")
        worst = partial(Gauge, registry=registry, multiprocess_mode="livemax")
        text = "1, for the build that runs."
        self._build = worst("reelrank_build_info", text, ["version", "python", "onnxruntime"])
        self._workers = summed("reelrank_workers", "Processes that serve.")
        text = "CPU time, user and system, of all workers since the start."
        self._cpu = Counter("reelrank_process_cpu_seconds", text, registry=registry)
        text = "Resident memory of the workers together; shared pages count once for each."
        self._resident = summed("reelrank_process_resident_bytes", text)
        text = "Worst event-loop lag within the last 10 s, of the worst worker."
        self._lag = worst("reelrank_loop_lag_seconds", text)
        self._lags_s: deque[float] = deque(maxlen=LAG_WINDOW_S * REPORTS_PER_S)
        self._reports = 0
        self._used_s = 0.0

    def started(self, version: str) -> None:
        """Report that this process serves from now on."""
        self._build.labels(version, platform.python_version(), onnxruntime.__version__).set(1)
        self._workers.set(1)
        self.update()

    def report_lag(self, lag_s: float) -> bool:
        """Report event-loop lag, `REPORTS_PER_S` times a second.

        Args:
            lag_s: the worst since the last call.

        Returns:
            Whether a second has passed, for what else is done once a second.
        """
        self._lags_s.append(lag_s)
        self._reports = (self._reports + 1) % REPORTS_PER_S
        if self._reports:
            return False
        self.update()
        return True

    def update(self) -> None:
        """Read CPU time, memory and lag."""
        times = os.times()
        used_s = times.user + times.system
        self._cpu.inc(max(0.0, used_s - self._used_s))
        self._used_s = used_s
        with suppress(OSError):  # no descriptor is left: the last value stays
            self._resident.set(_resident_bytes())
        self._lag.set(max(self._lags_s, default=0.0))


def _resident_bytes() -> int:
    if STATM.exists():
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource  # elsewhere only the peak is known

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
