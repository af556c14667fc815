"""A server and all that it starts: looked at as a whole, and ended as a whole."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from loadtests.machine import cpu_ms

MARK: Final = "PEER_MARK"
"""A variable that all processes of a server inherit, whatever session or process group they put themselves in
and whoever their parent is by then."""

END_S: Final = 10.0
"""What has not ended this long after a SIGTERM is killed."""


class Peer:
    """A server that is no service of ours, from its start to its end. A context manager.

    Servers may leave workers behind when they end, and may put them into other sessions. All of them carry a
    mark, and are ended by it, however the end comes.

    Args:
        command: what starts it.
        env: all of its variables, but the mark.
        folder: where it runs.
        log: where it writes.

    Attributes:
        mark: its processes' own, see `MARK`.
    """

    def __init__(self, command: Sequence[str], env: Mapping[str, str], folder: Path, log: Path) -> None:
        self._command = command
        self._env = env
        self._folder = folder
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.mark = new_mark()

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                env={**self._env, MARK: self.mark},
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        try:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(END_S)
        finally:
            if self._process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(END_S)
            clear(self.mark)

    @property
    def ended(self) -> bool:
        """Whether the process that was started is gone."""
        return self._process is not None and self._process.poll() is not None

    @property
    def last_words(self) -> str:
        """The end of what it wrote."""
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        return " / ".join(lines[-3:]) or "nothing"


def new_mark() -> str:
    """One that no process has yet."""
    return secrets.token_hex(16)


def members(mark: str) -> list[int]:
    """The processes that carry a mark and still run. None where there is no `/proc`."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        # A process that has ended, or is not ours, cannot be read; a zombie has nothing to read.
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def clear(mark: str) -> None:
    """Kill the processes that carry a mark, until there are none or `END_S` is over."""
    end = time.monotonic() + END_S
    while (left := members(mark)) and time.monotonic() < end:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def worked_ms(pids: Iterable[int]) -> float:
    """Processor time of processes so far; those that have ended are not in it."""
    return sum(cpu_ms(pid) for pid in pids)


def memory_mib(pids: Iterable[int]) -> float | None:
    """Resident memory of processes, with a page that several share counted once between them. `None` where
    it cannot be read."""
    found = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            size = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
            found += int(size[1]) / 1024 if size else 0.0
    return round(found, 1) or None
