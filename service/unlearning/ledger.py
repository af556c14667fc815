"""The unlearning ledger: which users must be forgotten by what is trained next. `models.ledger` reads it."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from typing import Final, NamedTuple

import anyio.to_thread
import msgspec

from models.errors import BadInput, StoreUnavailable
from models.ledger import Entry, read

FILE: Final = "unlearning.ndjson"
"""Its name in the data folder."""


class Waiting(NamedTuple):
    """Users whom the active bundle may have learned from, although they asked to be forgotten."""

    users: int
    """And what else a line names, each counted once."""
    since_ms: int | None
    """The oldest of their requests, Unix milliseconds; `None` where none waits."""


class Ledger:
    """An append-only file; every service with a data folder of its own has one of its own.

    Args:
        path: made at the first entry, readable by its owner only, for it holds ids. Its folder is not made:
            one that was removed may come back with the entries it had.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._waiting: tuple[object, Waiting] | None = None

    def prepare(self) -> None:
        """Make the folder, and check that entries can be written, so that the start says it and not a user's
        request.

        Raises:
            BadInput: they cannot.
        """
        reason = "it is not writable"
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(self.path if self.path.exists() else self.path.parent, os.W_OK):
                return
        except OSError as e:
            reason = e.strerror or str(e)
        raise BadInput(
            f"The unlearning ledger {self.path} cannot be written: {reason}. Give a folder that this user "
            "may write to as REELRANK_DATA_DIR."
        )

    async def append(self, user_id: str) -> None:
        """Append an entry, which is on the disk when this returns.

        Raises:
            StoreUnavailable: it could not be written.
        """
        line = msgspec.json.encode(Entry(user_id=user_id, forgotten_at_ms=int(time.time() * 1000))) + b"\n"
        try:
            await anyio.to_thread.run_sync(self._write, line)
        except OSError as e:
            raise StoreUnavailable(
                f"The unlearning ledger {self.path} cannot be written: {e.strerror}. Nothing was forgotten; "
                "make room or set its permissions, and repeat the request.",
                reason="ledger",
            ) from e

    def waiting(self, forgotten_until_ms: int | None) -> Waiting:
        """Return who waits for a bundle without them; the file is read again when it has changed.

        Args:
            forgotten_until_ms: of the active bundle: entries up to then do not wait.

        Raises:
            BadInput: the file cannot be read, or a line of it is no entry.
        """
        try:
            state = self.path.stat()
        except FileNotFoundError:
            return Waiting(0, None)
        key = (state.st_ino, state.st_size, state.st_mtime_ns, forgotten_until_ms)
        if self._waiting is None or self._waiting[0] != key:
            since_ms = 0 if forgotten_until_ms is None else forgotten_until_ms + 1
            entries = read(self.path, since_ms=since_ms)
            oldest_ms = min((entry.forgotten_at_ms for entry in entries), default=None)
            self._waiting = key, Waiting(len({tuple(entry.ids.items()) for entry in entries}), oldest_ms)
        return self._waiting[1]

    def _write(self, line: bytes) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)  # until it is closed: the other workers append here too
            before = os.fstat(fd).st_size
            if os.write(fd, line) != len(line):  # a disk that is full may take the beginning of a line
                os.ftruncate(fd, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(fd)
        finally:
            os.close(fd)
