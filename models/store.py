"""Bundles on disk: one immutable folder a version, and a file that names the active one.

    bundles/20260101-0123abcd/    manifest.json, labeler.onnx, ranker.onnx, vocabulary.json
    bundles/CURRENT               20260101-0123abcd
    bundles/HISTORY               what was promoted, oldest first, one version a line

`CURRENT` alone decides what is served, and it changes by one rename: at any read, and whenever a writer dies,
it names one complete version. `HISTORY` is only for `rollback`. It is written before
`CURRENT` on the way forward and after it on the way back, so that wherever a writer dies its last line is the
active version, or the one that was just about to be or just stopped being it; the next writer repairs that.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EXDEV
from pathlib import Path
from typing import Final

from models.errors import BadInput, BundleNotFound, CorruptBundle
from models.manifest import MANIFEST, Manifest

CURRENT: Final = "CURRENT"
HISTORY: Final = "HISTORY"

_VERSION: Final = re.compile(r"[0-9]{8}-[0-9a-f]{8}")


class BundleStore:
    """The versions under one folder. Safe to use from any number of processes at once.

    Readers take no lock. Writers wait for each other, and every step that others may see is one rename
    of something that is already on the disk.

    Args:
        root: the folder, e.g. `models/bundles`. `publish` makes it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def versions(self) -> list[str]:
        """Return every complete version, by name: the date first. Empty if there is no such folder."""
        if not self.root.is_dir():
            return []
        return sorted(p.name for p in self.root.iterdir() if _is_version(p.name) and (p / MANIFEST).is_file())

    def path(self, version: str) -> Path:
        """Return the version's folder.

        Raises:
            BadInput: not the name of a version, e.g. a path.
            BundleNotFound: there is no such version.
        """
        if not _is_version(version):
            raise BadInput(f"{version!r} is not a version, which looks like 20260101-0123abcd.")
        if not (self.root / version / MANIFEST).is_file():
            raise BundleNotFound(f"{self.root} holds no version {version}; {self._there_is()}.")
        return self.root / version

    def current(self) -> str:
        """Return the active version.

        Raises:
            BundleNotFound: nothing was promoted yet, or the active version's folder is gone.
            CorruptBundle: `CURRENT` holds something else than a version.
        """
        version = self._pointer()
        if version is None:
            raise BundleNotFound(f"{self.root} has no active version; {self._there_is()}. Promote one.")
        self.path(version)
        return version

    def previous(self) -> str | None:
        """Return the version that `rollback` would make active; `None` if there is none.

        It is the one that was active before the current one. Versions whose folders were removed since
        are passed over.
        """
        *earlier, current = self._history() or [""]
        there = (v for v in reversed(earlier) if v != current and (self.root / v / MANIFEST).is_file())
        return next(there, None)

    def publish(self, staging: Path) -> str:
        """Move a finished folder into the store. It does not become active.

        The folder is checked and written through to the disk before it appears under its final name. It may
        lie on another file system; it is gone from where it was afterwards.

        Args:
            staging: a bundle's folder, with nothing in it besides the files its manifest names.

        Returns:
            The version, as its manifest names it.

        Raises:
            BundleNotFound, CorruptBundle, ContractMismatch: see `Manifest.read`.
            BadInput: the version exists already (versions are immutable), the folder holds something that no
                checksum covers, or the store cannot be written.
        """
        manifest = _checked(staging)
        target = self.root / manifest.version
        with self._writing(make=True):
            if target.exists():
                raise BadInput(f"{target} exists, and a version never changes; export a new one.")
            _sync_tree(staging)
            try:
                staging.rename(target)
            except OSError as e:
                if e.errno != EXDEV:
                    raise
                self._publish_copy(staging, target)
            _sync(self.root)
            return manifest.version

    def promote(self, version: str) -> None:
        """Make a version the active one. Promoting the active one again changes nothing.

        Raises:
            BadInput: not the name of a version, or the store cannot be written.
            BundleNotFound, CorruptBundle, ContractMismatch: see `Manifest.read`. The active one stays.
        """
        self.path(version)
        with self._writing():
            self._check(version)
            history = self._history()
            if history[-1:] == [version]:
                return
            self._write(HISTORY, [*history, version])
            self._write(CURRENT, [version])

    def rollback(self) -> str:
        """Make the version active that was so before the current one. Each call goes one further back.

        Returns:
            The version that is active now.

        Raises:
            BundleNotFound: no earlier version is left.
            BadInput: the store cannot be written.
            CorruptBundle, ContractMismatch: the earlier one is damaged. The active one stays.
        """
        if self.previous() is None:
            raise BundleNotFound(f"{self.root} has no version to go back to; {self._there_is()}.")
        with self._writing():
            version = self.previous()
            if version is None:
                raise BundleNotFound(f"{self.root} was rolled back to its first version meanwhile.")
            self._check(version)
            history = self._history()[:-1]
            while history[-1] != version:  # passed over: its folder is gone
                history.pop()
            self._write(CURRENT, [version])
            self._write(HISTORY, history)
            return version

    def _pointer(self) -> str | None:
        """What `CURRENT` holds; `None` without one."""
        lines = self._lines(CURRENT)
        if not lines:
            return None
        if len(lines) > 1 or not _is_version(lines[0]):
            raise CorruptBundle(
                f"{self.root / CURRENT} holds {lines[0][:40]!r}, which is no version; {self._there_is()}. "
                "Remove the file and promote one."
            )
        return lines[0]

    def _history(self) -> list[str]:
        """What was promoted, oldest first, ending with the active version. Empty if none is active."""
        current = self._pointer()
        if current is None:
            return []
        history = [line for line in self._lines(HISTORY) if _is_version(line)]
        # A writer that died leaves one line too many. No two neighbours are equal, so it cannot be mistaken.
        if len(history) > 1 and history[-1] != current and history[-2] == current:
            history.pop()
        # Shipped without a history, or `CURRENT` was set by hand: what was active before stays reachable.
        return history if history and history[-1] == current else [*history, current]

    def _lines(self, name: str) -> list[str]:
        try:
            return (self.root / name).read_text("ascii", "replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as e:
            raise CorruptBundle(f"{self.root / name} cannot be read: {e.strerror}. Is it this user's?") from e

    def _check(self, version: str) -> None:
        found = Manifest.read(self.path(version)).version
        if found != version:
            raise CorruptBundle(
                f"{self.root / version} holds the manifest of {found}; a renamed folder is not that version."
            )

    def _publish_copy(self, staging: Path, target: Path) -> None:
        copy = self.root / ".incoming"
        shutil.rmtree(copy, ignore_errors=True)  # of a writer that died
        shutil.copytree(staging, copy)
        _checked(copy)
        _sync_tree(copy)
        copy.rename(target)
        _sync(self.root)
        shutil.rmtree(staging)

    def _write(self, name: str, lines: list[str]) -> None:
        """Replace a file in one step: a reader sees the old lines or the new ones."""
        draft = self.root / f".{name}.draft"  # the lock makes one name enough, so none is left to collect
        draft.write_text("".join(f"{line}\n" for line in lines), "ascii")
        _sync(draft)
        draft.replace(self.root / name)
        _sync(self.root)

    @contextmanager
    def _writing(self, *, make: bool = False) -> Iterator[None]:
        """Hold the store's lock, which the kernel lets go of when its holder dies."""
        try:
            if make and not self.root.is_dir():
                self.root.mkdir(parents=True, exist_ok=True)
                _sync(self.root.parent)
            folder = os.open(self.root, os.O_RDONLY)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX)
                yield
            finally:
                os.close(folder)
        except OSError as e:
            raise BadInput(
                f"{e.filename or self.root} cannot be written: {e.strerror or e}. "
                "The store needs a folder that this user may write to, with space left."
            ) from e

    def _there_is(self) -> str:
        versions = self.versions()
        return f"it holds {', '.join(versions[-5:])}" if versions else "it is empty, so export a bundle first"


def _is_version(name: str) -> bool:
    return _VERSION.fullmatch(name) is not None


def _checked(folder: Path) -> Manifest:
    """The manifest of a folder of plain files: a link may lead to what is not published with it."""
    manifest = Manifest.read(folder)
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            raise BadInput(f"{path} is a link; publish the file itself.")
    return manifest


def _sync_tree(folder: Path) -> None:
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    """Write a file's bytes, or a folder's names, through to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
