"""Getting bundles into the slot: at start, when `CURRENT` moves, and when an operator says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import anyio.to_thread

from models.errors import BundleError, BundleNotFound, ReelrankError
from models.manifest import MANIFEST, Manifest
from models.runtime import Bundle, Device
from models.store import CURRENT, BundleStore
from service.runtime.slot import Slot
from service.runtime.warmup import warm

log = logging.getLogger("reelrank.bundles")

Loaded = Callable[[Bundle], None]
Failed = Callable[[], None]

FIXED: Final = "The service was started with one version's folder ({}); start it with the folder of versions."


class Bundles:
    """Loads, self-tests and warms a bundle off the event loop, and only then swaps it in.

    A bundle that fails any of it changes nothing: the one in the slot goes on answering.

    Args:
        folder: a folder of versions, or one version's folder (it has a manifest), which is then fixed.
        slot: where the current bundle is held.
        device: where the graphs shall run.
        loaded: called after a swap.
        failed: called when a bundle was refused.
    """

    def __init__(self, folder: Path, slot: Slot, device: Device, loaded: Loaded, failed: Failed) -> None:
        self._folder = folder
        self._slot = slot
        self._device = device
        self._loaded = loaded
        self._failed = failed
        self._fixed = (folder / MANIFEST).exists()
        self._store = BundleStore(folder)
        self._lock = asyncio.Lock()
        self._refused: str | None = None

    async def start(self) -> None:
        """Load the current version. A folder where nothing was promoted yet is left to `follow`.

        Raises:
            BundleNotFound: there is no such folder, or the version that `CURRENT` names is gone.
            BundleError: the version is there and cannot be used.
        """
        if not self._folder.is_dir():
            raise BundleNotFound(f"{self._folder} is not a folder; name a folder of bundles with --bundle.")
        async with self._lock:
            if self._fixed:
                await self._load(self._folder)
            elif (version := self._current()) is not None:
                await self._load(self._store.path(version))

    async def follow(self) -> None:
        """One look at `CURRENT`: if it names another version, load and swap. A bad bundle is logged, once."""
        if self._fixed:
            return
        async with self._lock:
            version = None
            try:
                version = await anyio.to_thread.run_sync(self._current)
                if version is None or version in (self._slot.version, self._refused):
                    return
                await self._load(self._store.path(version))
            except ReelrankError as e:
                # Once is enough to say so; another promote is another look.
                if self._refused != (version or str(e)):
                    self._refused = version or str(e)
                    self._failed()
                    log.error("kept bundle %s: %s", self._slot.version, e)

    async def activate(self, version: str) -> None:
        """Load a version, promote it, swap it in.

        Raises:
            BundleNotFound: no such version.
            BundleError: it cannot be used, or the service was started with one fixed version.
        """
        self._refuse_if_fixed()
        async with self._lock:
            bundle = await self._read(self._versioned(version))
            await anyio.to_thread.run_sync(self._store.promote, version)
            self._swap(bundle)

    async def rollback(self) -> str:
        """Go back to the version that was current before; it is checked before it serves.

        Raises:
            BundleNotFound: there is none to go back to.
            BundleError: it cannot be used; then the version of now stays, in the slot and in `CURRENT`.
        """
        self._refuse_if_fixed()
        async with self._lock:
            version = await anyio.to_thread.run_sync(self._store.previous)
            if version is None:
                raise BundleNotFound("There is no version to go back to; GET /v1/models lists what there is.")
            bundle = await self._read(self._store.path(version))
            moved_to = await anyio.to_thread.run_sync(self._store.rollback)
            if moved_to != version:  # somebody else moved `CURRENT` meanwhile
                bundle = await self._read(self._store.path(moved_to))
            self._swap(bundle)
            return moved_to

    def manifests(self) -> dict[str, Manifest | str]:
        """Every version's manifest, or what is wrong with it. Reads the disk."""
        if self._fixed:
            found = {self._folder.name: self._folder}
        else:
            found = {version: self._store.path(version) for version in self._store.versions()}
        out: dict[str, Manifest | str] = {}
        for version, path in found.items():
            try:
                out[version] = Manifest.read(path)
            except BundleError as e:
                out[version] = str(e)
        return out

    def _current(self) -> str | None:
        return self._store.current() if (self._folder / CURRENT).exists() else None

    def _versioned(self, version: str) -> Path:
        if version not in self._store.versions():
            raise BundleNotFound(f"There is no version {version!r}; GET /v1/models lists what there is.")
        return self._store.path(version)

    def _refuse_if_fixed(self) -> None:
        if self._fixed:
            raise BundleError(FIXED.format(self._folder))

    async def _load(self, path: Path) -> None:
        self._swap(await self._read(path))

    async def _read(self, path: Path) -> Bundle:
        return await anyio.to_thread.run_sync(_load_and_warm, path, self._device)

    def _swap(self, bundle: Bundle) -> None:
        self._slot.swap(bundle)
        self._refused = None
        self._loaded(bundle)


def _load_and_warm(path: Path, device: Device) -> Bundle:
    bundle = Bundle.load(path, device=device)
    warm(bundle)
    return bundle
