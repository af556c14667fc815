"""What a figure is worth: of which commit, on which machine; and what a process takes of it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path


def stamp(command: str) -> dict[str, str]:
    """What every report begins with: how it was made, of what, when and where."""
    return {
        "command": command,
        "commit": _commit(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": _machine(),
    }


def cpu_ms(pid: int | None) -> float:
    """Time a process has worked so far; 0 where it cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


class Others:
    """How much of a machine other programs took meanwhile: figures of a shared one are upper bounds.

    Ours is this process and all that it has started and seen end, so `share` is asked for when they have.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_s = clock()
        self._busy_s, self._own_s = _busy_s(), _own_s()

    def share(self) -> float | None:
        """Of all cores since the beginning; `None` where it cannot be read."""
        busy_s = _busy_s()
        if busy_s is None or self._busy_s is None:
            return None
        others_s = busy_s - self._busy_s - (_own_s() - self._own_s)
        room_s = (self._clock() - self._began_s) * (os.cpu_count() or 1)
        return round(min(1.0, max(0.0, others_s / room_s)), 3)


def rss_mib(pid: int) -> float | None:
    """Memory a process holds; `None` where it cannot be read."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return round(int(found[1]) / 1024, 1) if found else None


def children(pid: int) -> dict[int, str]:
    """The processes that the main thread of a process has started, and how each was called. Empty where it
    cannot be read."""
    try:
        pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        called = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in pids}
    except OSError:
        return {}
    return {child: line.replace(b"\0", b" ").decode(errors="replace") for child, line in called.items()}


def _busy_s() -> float | None:
    """Seconds that all cores have worked since the machine's start, or were taken from it by its host."""
    try:
        ticks = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    user, nice, system, _idle, _waiting, hard, soft, stolen = ticks
    return (user + nice + system + hard + soft + stolen) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    """Seconds that this process and those it has waited for have worked."""
    return sum(os.times()[:4])


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def _machine() -> str:
    try:
        model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        model = None
    name = model[1] if model else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
