"""The newest slates of the served log, and its newest events of one user."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from models.served_log import SUFFIX, LoggedEvent, LoggedSlate, log_files

TAIL_BYTES: Final = 2**20
"""Read of each file: some hundred slates of a usual size."""

CHUNK_BYTES: Final = 2**20
"""Looked through at a time, within which no other thread runs: some tenths of a millisecond."""

_event: Final = msgspec.json.Decoder(LoggedEvent)
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


def recent_events(folder: Path, user_id: str, limit: int) -> list[LoggedEvent]:
    """Return a user's newest events of the files that have not been compressed, newest first.

    Args:
        folder: of the log.
        user_id: whose.
        limit: most events to return.

    Raises:
        BadInput: there is no such folder.
    """
    events: list[LoggedEvent] = []
    member = b'"user_id":' + msgspec.json.encode(user_id)
    for path in log_files(folder, "events"):
        if path.name.endswith(SUFFIX):
            with contextlib.suppress(FileNotFoundError):  # it has just been compressed
                for line in deque(_lines_with(member, path), maxlen=limit):
                    with contextlib.suppress(ValueError):  # a damaged line is none
                        events.append(_event.decode(line))
    return sorted(events, key=lambda event: event.logged_at_ms, reverse=True)[:limit]


def _lines_with(member: bytes, path: Path) -> Iterator[bytes]:
    """Whole lines of a file that hold a member."""
    rest = b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            lines, _, rest = (rest + chunk).rpartition(b"\n")
            if member in lines:
                yield from (line for line in lines.split(b"\n") if member in line)


def _last_lines(path: Path) -> list[bytes]:
    """Whole lines at the end of a file."""
    with path.open("rb") as file:
        start = max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES)
        file.seek(start)
        lines = file.read(TAIL_BYTES).split(b"\n")
    return lines[1 if start else 0 : -1]  # the first may have begun before, the last is unfinished
