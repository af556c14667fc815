"""The folder of the embedded store, which may be removed under a server that goes on answering."""

from __future__ import annotations

import logging
from pathlib import Path

from models.errors import StoreUnavailable

log = logging.getLogger("reelrank.store")


class DataFolder:
    """Looked at before each write, in some microseconds: the server itself notices at its next start.

    Args:
        path: of a server that runs.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._manifest = path / "appendonlydir" / "appendonly.aof.manifest"
        self._inode = path.stat().st_ino
        self._logged = False

    def check(self) -> None:
        """Do nothing while the folder is the one it was at the start and has the server's files.

        Raises:
            StoreUnavailable: it is not: what is written now is in memory only.
        """
        try:
            if self._path.stat().st_ino == self._inode and self._manifest.stat().st_size:
                return
        except OSError:
            pass
        message = (
            f"The data folder {self._path} was removed or replaced while the store runs: nothing is written "
            "any more. Put it back if it was moved; otherwise restart, which loses what it held."
        )
        if not self._logged:
            log.error(message)
            self._logged = True
        raise StoreUnavailable(message, reason="data_folder")
