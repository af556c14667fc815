"""What a figure is worth: of which commit, on which machine; and what a process takes of it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
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
