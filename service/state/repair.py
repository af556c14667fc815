"""An append-only file with a damaged end: everything before the damage is kept, the rest put aside."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from models.errors import BadInput
from service.state.embedded import lock_folder, server_binary

_WRITES: Final = re.compile(r"^file (\S+) seq \d+ type i$", re.MULTILINE)
"""Files of the manifest that writes are appended to, oldest first."""
_WHOLE: Final = re.compile(r"ok_up_to=(\d+)")


@dataclass(frozen=True, slots=True)
class Damage:
    """What was found at the end of a file, and where it was put."""

    file: Path
    kept_bytes: int
    dropped_bytes: int
    dropped_to: Path


def drop_damaged_end(data_dir: Path) -> Damage | None:
    """Cut the append-only file of an embedded store after its last whole transaction.

    Returns:
        What was dropped; `None` if nothing is damaged.

    Raises:
        BadInput: there is no store, it runs, or its last file is not the damaged one.
    """
    folder = data_dir / "appendonlydir"
    try:
        *earlier, last = _WRITES.findall((folder / "appendonly.aof.manifest").read_text())
    except (OSError, ValueError) as e:
        raise BadInput(
            f"{folder} has no readable manifest of an embedded store ({e}). Restore the folder from a backup."
        ) from None
    lock = lock_folder(data_dir)
    try:
        for name in earlier:
            if _whole_bytes(folder / name) < (folder / name).stat().st_size:
                raise BadInput(f"{folder / name} is damaged, and {last} follows it. Restore a backup.")
        file, kept = folder / last, _whole_bytes(folder / last)
        with file.open("rb+") as content:
            content.seek(kept)
            if not (dropped := content.read()):
                return None
            dropped_to = data_dir / f"{last}.dropped-from-{kept}"
            dropped_to.write_bytes(dropped)
            dropped_to.chmod(0o600)
            content.truncate(kept)
    finally:
        os.close(lock)
    return Damage(file, kept, len(dropped), dropped_to)


def _whole_bytes(file: Path) -> int:
    """How many bytes of a file are whole transactions. Under the name below the server checks files."""
    if not file.stat().st_size:
        return 0
    checked = subprocess.run(
        ["redis-check-aof", file.name],
        executable=server_binary(),
        cwd=file.parent,
        capture_output=True,
        text=True,
    )
    found = _WHOLE.search(checked.stdout)
    if found is None:
        raise BadInput(f"{file} cannot be checked: {checked.stdout.strip() or checked.stderr.strip()}")
    return int(found[1])
