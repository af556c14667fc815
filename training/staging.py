"""Output folders that appear whole or not at all."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from models.errors import BadInput

UNFINISHED: Final = ".unfinished"
"""End of the name of a folder that is being written."""


def refuse_existing(out: Path) -> None:
    """Refuse an output folder that is in use, before a command computes for long.

    Raises:
        BadInput: `out` exists and is not an empty folder.
    """
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
        raise BadInput(f"{out} exists already; give a new folder, or remove it first.")


def replace_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(text)
    draft.replace(path)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which the kernel lets go of when its holder dies.

    Raises:
        BlockingIOError: another process holds it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """Yield a folder beside `out` that is renamed to `out` when the block succeeds and removed when it fails.
    Folders that killed writers of `out` left are removed at the start.

    Raises:
        BadInput: `out` exists and is not an empty folder, or its parent folder cannot be written.
    """
    refuse_existing(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        for left in out.parent.glob(f".{glob.escape(out.name)}-????????{UNFINISHED}"):
            with suppress(BlockingIOError), locked(left):
                shutil.rmtree(left, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}-", suffix=UNFINISHED, dir=out.parent))
    except OSError as e:
        raise BadInput(f"cannot write beside {out}: {e.strerror}; give another folder.") from e
    try:
        with locked(staging):
            yield staging
        umask = os.umask(0)  # the only way to read it; mkdtemp made the folder for its owner alone
        os.umask(umask)
        staging.chmod(0o777 & ~umask)
        staging.replace(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
