"""The newest slates of the served log."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

import msgspec

from models.served_log import SUFFIX, LoggedSlate, log_files

TAIL_BYTES: Final = 2**20
"""Read of each file: some hundred slates of a usual size."""

_slate: Final = msgspec.json.Decoder(LoggedSlate)


def recent_slates(folder: Path, limit: int) -> list[LoggedSlate]:
    """Return the newest slates of the files that have not been compressed, newest first.

    Args:
        folder: of the log.
        limit: most slates to return.

    Raises:
        BadInput: there is no such folder.
    """
    slates: list[LoggedSlate] = []
    for path in log_files(folder, "slates"):
        if path.name.endswith(SUFFIX):
            with contextlib.suppress(FileNotFoundError):  # it has just been compressed
                for line in _last_lines(path):
                    with contextlib.suppress(ValueError):  # a damaged line is none
                        slates.append(_slate.decode(line))
    return sorted(slates, key=lambda slate: slate.timestamp_ms, reverse=True)[:limit]


def _last_lines(path: Path) -> list[bytes]:
    """Whole lines at the end of a file."""
    with path.open("rb") as file:
        start = max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES)
        file.seek(start)
        lines = file.read(TAIL_BYTES).split(b"\n")
    return lines[1 if start else 0 : -1]  # the first may have begun before, the last is unfinished
