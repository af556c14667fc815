"""Appends lines of one kind to the served log, a file at a time."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from models.served_log import SUFFIX, Kind

CLOSE_REQUEST: Final = ".close"
"""A file whose changes ask all writers to end their files."""


class LogFile:
    """The file that this process appends to, and its successors. Thread-safe.

    It is locked as long as it is open, so that others know that it has not ended; the kernel lets go of the
    lock when this process is killed. A line is in the kernel's hands when `append` returns.

    Args:
        folder: of the log.
        kind: of the lines.
        max_bytes: size at which a file ends.
    """

    def __init__(self, folder: Path, kind: Kind, max_bytes: int) -> None:
        self._folder = folder
        self._kind = kind
        self._max_bytes = max_bytes
        self._mutex = threading.Lock()
        self._file: io.FileIO | None = None
        self._size = 0
        self._close_request = 0

    def append(self, lines: bytes) -> None:
        """Append whole lines.

        Raises:
            OSError: they could not be written; none of them is in the log.
        """
        with self._mutex:
            file = self._file or self._open()
            try:
                if file.write(lines) != len(lines):  # a full disk may take the beginning
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                try:
                    file.truncate(self._size)
                except OSError:  # what follows must not join half a line
                    self._close()
                raise
            self._size += len(lines)
            if self._size >= self._max_bytes:
                self._close()

    def close_if_asked(self) -> None:
        """End the file if that was asked for since it was opened, or if it was removed."""
        with self._mutex:
            if self._file is not None and (
                _close_request(self._folder) != self._close_request
                or not os.fstat(self._file.fileno()).st_nlink
            ):
                self._close()

    def close(self) -> None:
        """End the file; the next line begins another."""
        with self._mutex:
            self._close()

    def _open(self) -> io.FileIO:
        self._close_request = _close_request(self._folder)
        while self._file is None:
            began = f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}"
            name = f"{self._kind}-{began}-{socket.gethostname()}-{os.getpid()}{SUFFIX}"
            file = io.FileIO(self._folder / name, "x", opener=_private)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                # Without a link, another process took it for one that has ended before it was locked.
                if os.fstat(file.fileno()).st_nlink:
                    self._file, self._size = file, 0
            finally:
                if self._file is None:
                    file.close()
        return self._file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_APPEND, 0o600)


def _close_request(folder: Path) -> int:
    try:
        return (folder / CLOSE_REQUEST).stat().st_mtime_ns
    except OSError:
        return 0
