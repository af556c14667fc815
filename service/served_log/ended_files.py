"""What happens to files of the served log that have ended: compressed, freed of forgotten users, removed."""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import os
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

import msgspec

from models.errors import BadInput
from models.served_log import COMPRESSED, SUFFIX, Kind, log_files, whole_lines
from service.served_log.log_file import CLOSE_REQUEST

PART: Final = ".part"
"""End of the name of a file that is being written; the next attempt writes over one that was left."""

LEVEL: Final = 1
"""Of compression: a fifth of the size, at a third of the default level's time."""

CLOSE_TIMEOUT_S: Final = 30.0
"""How long `purge` waits for the writers of open files. They look every two seconds."""

KINDS: Final[tuple[Kind, ...]] = ("slates", "events")
"""In the order in which a log that has grown too large loses them."""


class _Owner(msgspec.Struct):
    user_id: str


_owner: Final = msgspec.json.Decoder(_Owner)


def compress_ended(folder: Path, pause: Callable[[], None]) -> None:
    """Compress every file that no process writes or compresses.

    Args:
        folder: of the log.
        pause: called between lines, thousands of times a file; what it raises leaves the file as it is.

    Raises:
        OSError: the disk is full, or the like.
    """
    _finish_compressions(folder)
    for kind in KINDS:
        for path in log_files(folder, kind):
            if path.name.endswith(SUFFIX):
                with _ended(path) as has_ended:
                    if has_ended:
                        _rewrite(path, (), pause)


def remove_oldest(folder: Path, max_bytes: int) -> Iterator[Path]:
    """Remove compressed files while the log is too large: the oldest slates, then the oldest events.

    Yields:
        Each file that was removed.
    """
    excess = log_bytes(folder) - max_bytes
    for kind in KINDS:
        for path in log_files(folder, kind):
            if excess <= 0:
                return
            if path.name.endswith(COMPRESSED):
                with contextlib.suppress(FileNotFoundError):  # another worker was faster
                    size = path.stat().st_size
                    path.unlink()
                    excess -= size
                    yield path


def log_bytes(folder: Path) -> int:
    """Return the size of all files of the log."""
    size = 0
    for entry in folder.glob("*.ndjson*"):
        with contextlib.suppress(FileNotFoundError):
            size += entry.stat().st_size
    return size


def purge(folder: Path, users: Collection[str]) -> Iterator[int]:
    """Remove the lines of users. Services may write to the log meanwhile: they end their files first, and
    begin others.

    Each file is replaced as a whole: a purge that is interrupted leaves the others as they were, and is
    repeated.

    Args:
        folder: of the log.
        users: to be removed.

    Yields:
        For each file how many lines it has lost.

    Raises:
        BadInput: the folder or a file of it cannot be read or written, or a process does not end its file.
    """
    try:
        _finish_compressions(folder)
        paths = [path for kind in KINDS for path in log_files(folder, kind)]
        (folder / CLOSE_REQUEST).touch()
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        for path in paths:
            yield _purge_file(path, users, deadline)
    except OSError as e:
        raise BadInput(
            f"The served log {folder} cannot be purged: {e}. Repeat it when that is mended."
        ) from None


def _purge_file(path: Path, users: Collection[str], deadline: float) -> int:
    while True:
        if not path.exists() and path.name.endswith(SUFFIX):  # compressed meanwhile
            path = path.with_name(path.name + ".gz")
        with _ended(path) as has_ended:
            if has_ended:
                return _rewrite(path, users, lambda: None)
        if not path.exists() and path.name.endswith(COMPRESSED):
            return 0  # removed: the log was too large
        if time.monotonic() > deadline:
            raise BadInput(
                f"{path} is still being written after {CLOSE_TIMEOUT_S:g} s; its lines are not purged. "
                "Restart the service that writes it, and repeat the purge."
            )
        time.sleep(0.05)


def _finish_compressions(folder: Path) -> None:
    """Remove files that there is a compressed form of: the process that made it was killed before it did."""
    for path in folder.glob(f"*{COMPRESSED}"):
        path.with_name(path.name.removesuffix(".gz")).unlink(missing_ok=True)


@contextlib.contextmanager
def _ended(path: Path) -> Iterator[bool]:
    """Lock a file, unless its writer or another process holds the lock; yield whether this succeeded."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield os.fstat(descriptor).st_nlink > 0
    finally:
        os.close(descriptor)


def _rewrite(path: Path, without: Collection[str], pause: Callable[[], None]) -> int:
    """Replace a locked file by a compressed one without the lines of some users; return their number."""
    target = path if path.name.endswith(COMPRESSED) else path.with_name(path.name + ".gz")
    part = target.with_name(target.name + PART)
    kept = removed = 0
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "wb") as file:
            with gzip.GzipFile("", "wb", LEVEL, file) as out:
                for line in whole_lines(path):
                    if without and _user(line, path) in without:
                        removed += 1
                        continue
                    out.write(line)
                    kept += 1
                    if kept % 256 == 0:
                        pause()
            file.flush()
            os.fsync(file.fileno())
        if kept and (removed or target != path):
            part.replace(target)
        if target != path or not kept:
            path.unlink(missing_ok=True)
    finally:
        part.unlink(missing_ok=True)
    return removed


def _user(line: bytes, path: Path) -> str:
    try:
        return _owner.decode(line).user_id
    except (ValueError, RecursionError) as e:
        raise BadInput(
            f"{path} has a line that names no user ({e}): {line[:80]!r}. Remove it, and repeat the purge."
        ) from None
