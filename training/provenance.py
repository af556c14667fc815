"""Provenance of a figure: the command, the commit and the machine that every report carries."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version as installed_version
from pathlib import Path


def provenance() -> dict[str, str]:
    """Return command, commit and machine, by name."""
    return {"command": command(), "commit": commit(), "machine": machine()}


def command() -> str:
    """Return the command line that repeats this run."""
    program = "python -m training" if Path(sys.argv[0]).name == "__main__.py" else Path(sys.argv[0]).name
    return " ".join([program, *(shlex.quote(a) for a in sys.argv[1:])])


def commit() -> str:
    """Return the checked-out commit, `-dirty` when tracked files differ, `unknown` outside a checkout."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def code_digest() -> str:
    """Return a digest of this code and of torch's version: of what decides a figure besides data and config.

    Not the commit: one that changes a README changes no figure, and an uncommitted change may.
    """
    root = Path(__file__).parents[1]
    sha256 = hashlib.sha256(installed_version("torch").encode())
    for path in sorted(path for package in ("models", "training") for path in (root / package).rglob("*.py")):
        sha256.update(f"\n{path.name}\n".encode() + path.read_bytes())
    return sha256.hexdigest()


def machine() -> str:
    """Return processor, cores this process may use, memory, and the Python that ran."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{model}, {cores} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
    )
