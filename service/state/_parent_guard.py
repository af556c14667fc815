"""Runs as a program between us and the server, so that no server outlives its parent. Standard library only.

    python -I -S _parent_guard.py {follow|watch} PARENT_PID PROGRAM [ARGUMENT ...]

`follow` (Linux) asks the kernel to send SIGTERM when the parent's thread that started it ends, and becomes
PROGRAM. `watch` (elsewhere) stays, looks four times a second whether the parent is still the parent, and
passes SIGTERM on. A program of its own rather than a `preexec_fn`: code between fork and exec must not
run in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from types import FrameType

_PR_SET_PDEATHSIG = 1


def follow(parent: int, command: list[str]) -> None:
    """Become the program, with the kernel watching the parent."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # it ended before the kernel was asked
        sys.exit("the parent has ended")
    os.execv(command[0], command)


def watch(parent: int, command: list[str]) -> None:
    """Run the program, and end it when the parent is gone or on SIGTERM."""
    with subprocess.Popen(command, close_fds=False) as server:

        def stop(_signal: int, _frame: FrameType | None) -> None:
            server.terminate()

        signal.signal(signal.SIGTERM, stop)
        while server.poll() is None:
            if os.getppid() != parent:
                server.terminate()
            try:
                server.wait(0.25)
            except subprocess.TimeoutExpired:
                continue
    sys.exit(server.returncode)


if __name__ == "__main__":
    os.umask(0o077)
    mode, pid, *program = sys.argv[1:]
    {"follow": follow, "watch": watch}[mode](int(pid), program)
