"""The machine under a measurement: its identity, its load, and how long its cores stand still."""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Final

MIN_GAP_S: Final = 0.5e-3
"""Shorter gaps in which a core stood still are interrupts."""


def run_metadata(command: str) -> dict[str, str]:
    """Return command, commit, date and machine: the head of every report."""
    return {
        "command": command,
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": _machine(),
    }


def cpu_ms(pid: int | None) -> float:
    """Return the processor time of a process so far in milliseconds; 0 where it cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int | None) -> float | None:
    """Return the resident memory of a process in MiB; `None` where it cannot be read."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    return round(int(match[1]) / 1024, 1) if match else None


def free_port() -> int:
    """Return a port of loopback that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def child_processes(pid: int) -> dict[int, str]:
    """Return the command lines of a process' children by pid, whichever thread started them; empty where they
    cannot be read."""
    try:
        threads = Path(f"/proc/{pid}/task").glob("*/children")
        pids = [child for thread in threads for child in thread.read_text().split()]
        lines = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in pids}
    except OSError:
        return {}
    return {child: line.replace(b"\0", b" ").decode(errors="replace") for child, line in lines.items()}


class OtherLoad:
    """Share of all cores that other programs took, since its construction.

    This process and the children it has waited for are excluded, so read `share` after they have ended.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start_s = clock()
        self._busy_s, self._own_s = _busy_s(), _own_s()

    def share(self) -> float | None:
        """Return the share in [0, 1]; `None` where it cannot be read."""
        busy_s = _busy_s()
        if busy_s is None or self._busy_s is None:
            return None
        others_s = busy_s - self._busy_s - (_own_s() - self._own_s)
        available_s = (self._clock() - self._start_s) * (os.cpu_count() or 1)
        return round(min(1.0, max(0.0, others_s / available_s)), 3)


def measure_jitter(seconds: float) -> dict[str, float]:
    """Return `share` of the time in which a core stood still, and `longest_ms`, over all cores at once.

    No service on the host can answer sooner. One process a core reads the clock in a loop and records the
    gaps, which come from steal time and hyper-threads.
    """
    count = os.cpu_count() or 1
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        cores = list(pool.map(watch_clock, [seconds] * count))
    share = round(sum(core["share"] for core in cores) / count, 4)
    return {"share": share, "longest_ms": max(core["longest_ms"] for core in cores)}


def watch_clock(seconds: float, clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
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


def _busy_s() -> float | None:
    """Return the seconds all cores have worked since boot, steal time included."""
    try:
        ticks = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    return sum(os.times()[:4])


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _machine() -> str:
    try:
        model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        model = None
    name = model[1] if model else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
