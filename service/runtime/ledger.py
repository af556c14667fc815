"""The unlearning ledger: which users must be forgotten by what is trained next. `models.ledger` reads it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import anyio.to_thread
import msgspec

from models.errors import StoreUnavailable
from models.ledger import Entry

FILE: Final = "unlearning.ndjson"
"""Its name in the data folder."""


class Ledger:
    """An append-only file; every service with a data folder of its own has one of its own.

    Args:
        path: made, with its folder, at the first entry; readable by its owner only, for it holds ids.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    async def append(self, user_id: str) -> None:
        """One more entry, on the disk when this returns.

        Raises:
            StoreUnavailable: it could not be written.
        """
        line = msgspec.json.encode(Entry(user_id, int(time.time() * 1000))) + b"\n"
        try:
            await anyio.to_thread.run_sync(self._write, line)
        except OSError as e:
            raise StoreUnavailable(
                f"The unlearning ledger {self.path} cannot be written: {e.strerror}."
            ) from e

    def _write(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One write of O_APPEND: workers do not tear each other's lines.
        fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, line)
            os.fsync(fd)
        finally:
            os.close(fd)
