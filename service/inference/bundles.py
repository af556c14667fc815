"""Getting bundles into the slot: at start, when `CURRENT`, `SPLIT` or `SHADOW` moves, and when an operator
says so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio.to_thread

from models.errors import BundleError, BundleNotFound, ReelrankError
from models.manifest import MANIFEST, Manifest
from models.runtime import GPU_MEMORY_MIB, Bundle, Device
from models.store import CURRENT, BundleStore
from service.inference import loader as loading
from service.inference.rollout import ROLES, Role, Trial, Trials
from service.inference.serving_set import OnTrial, Serving, Slot
from service.inference.traffic_sample import Recorded
from service.telemetry.bundles import BundleMetrics

log = logging.getLogger("reelrank.bundles")

FIXED: Final = "The service was started with one version's folder ({}); start it with the folder of versions."
_CURRENT: Final = "current"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a version does not have the role it should have."""

    version: str
    detail: str
    cause: object
    """What was found on the disk when a look at it led to this; nothing else is another look. `None`: an
    operator was told so."""


class Bundles:
    """Loads, self-tests and warms a bundle off the event loop, and only then swaps it in.

    A bundle that fails any of it changes nothing: those in the slot go on answering. The bundle that was
    replaced last stays in memory, so that going back to it is a swap.

    Args:
        folder: a folder of versions, or one version's folder (it has a manifest), which is then fixed.
        slot: where the bundles that answer are held.
        device: where the graphs shall run.
        gpu_memory_mib: see `Bundle.load`.
        trials: what is on trial where the folder does not say.
        recorded: requests that a bundle is run through.
        metrics: where swaps and refusals are counted.
        swapped: told of every bundle that answers everybody, or all but the split, from now on.
    """

    def __init__(
        self,
        folder: Path,
        slot: Slot,
        device: Device,
        gpu_memory_mib: int = GPU_MEMORY_MIB,
        *,
        trials: Mapping[Role, Trial | None],
        recorded: Recorded,
        metrics: BundleMetrics,
        swapped: Callable[[Bundle], None] = lambda bundle: None,
    ) -> None:
        self._folder = folder
        self._slot = slot
        self._device = device
        self._gpu_memory_mib = gpu_memory_mib
        self._recorded = recorded
        self._metrics = metrics
        self._swapped = swapped
        self._fixed = (folder / MANIFEST).exists()
        if self._fixed and any(trials.values()):
            raise BundleError(f"A version cannot be on trial beside a fixed one. {FIXED.format(folder)}")
        self._store = BundleStore(folder)
        self._trials = Trials(folder, trials)
        self._lock = asyncio.Lock()
        self._held: dict[str, Bundle] = {}
        self._before: str | None = None
        self._on: dict[Role, OnTrial] = {}
        self.refused: dict[str, Refusal] = {}
        """By role."""

    async def start(self) -> None:
        """Load the current version and those on trial. A folder where nothing was promoted yet is left to
        `follow`; so is a version on trial that cannot be used.

        Raises:
            BundleNotFound: there is no such folder, or the version that `CURRENT` names is gone.
            BundleError: the version is there and cannot be used.
        """
        if not self._folder.is_dir():
            raise BundleNotFound(f"{self._folder} is not a folder; name a folder of bundles with --bundle.")
        async with self._lock:
            if self._fixed:
                self._swap(await self._read(self._folder, only=True))
            elif (version := self._current()) is not None:
                self._swap(await self._read(self._store.path(version), only=True))
                await self._follow_trials()

    async def follow(self) -> None:
        """One look at the folder: what it names and does not answer is loaded and swapped in. A bad bundle
        is logged, once."""
        if self._fixed:
            return
        async with self._lock:
            await self._follow_current()
            if self._slot.version is not None:
                await self._follow_trials()

    async def activate(self, version: str) -> None:
        """Load a version, promote it, swap it in. The current one again: nothing happens.

        Raises:
            BundleNotFound: no such version.
            BundleError: it cannot be used, or the service was started with one fixed version.
        """
        self._refuse_if_fixed()
        async with self._lock:
            path = self._versioned(version)
            if version == self._slot.version == self._current():
                return
            try:
                bundle = await self._get(path)
                await anyio.to_thread.run_sync(self._store.promote, version)
            except BundleError as e:
                self._refuse(_CURRENT, Refusal(version, str(e), None), e)
                raise
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
            try:
                bundle = await self._get(self._store.path(version))
                moved_to = await anyio.to_thread.run_sync(self._store.rollback)
                if moved_to != version:  # somebody else moved `CURRENT` meanwhile
                    bundle = await self._get(self._store.path(moved_to))
            except BundleError as e:
                self._refuse(_CURRENT, Refusal(version, str(e), None), e)
                raise
            self._swap(bundle)
            return moved_to

    async def put_on_trial(self, role: Role, version: str, share: float) -> None:
        """Give a version a share beside the current one, in every worker and after a restart; with a share
        of 0, end that. A trial of another version in that role ends.

        Raises:
            NotReady: there is no current version.
            BundleNotFound: no such version.
            BundleError: it cannot be used, another one is on trial (share 0), or the service was started
                with one fixed version.
            BadInput: the folder cannot be written.
        """
        self._refuse_if_fixed()
        async with self._lock:
            serving = self._slot.serving()
            path = self._versioned(version)
            trial = Trial(version, share)
            if share == 0:
                running = await anyio.to_thread.run_sync(self._trials.read, role)
                if running is not None and running.version != version:
                    raise BundleError(f"{version} has no {role}; it is {running.version}'s.")
                await anyio.to_thread.run_sync(self._trials.write, role, trial)
                self._end(role)
                return
            try:
                bundle = await self._get(path)
                if role == "split":
                    loading.check_stands_in(bundle, serving.current)
            except BundleError as e:
                self._refuse(role, Refusal(version, str(e), None), e)
                raise
            await anyio.to_thread.run_sync(self._trials.write, role, trial)
            self._try(role, OnTrial(bundle, trial))

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

    # --- a look at the folder

    async def _follow_current(self) -> None:
        version = None
        refused = self.refused.get(_CURRENT)
        try:
            version = await anyio.to_thread.run_sync(self._current)
            if version == self._slot.version and refused is not None and refused.cause is not None:
                self._accept(_CURRENT)  # what could not be used is not wanted any more
            if version is None or version == self._slot.version:
                return
            if refused is None or refused.cause != version:
                self._swap(await self._get(self._store.path(version)))
        except ReelrankError as e:
            # Once is enough to say so; another promote is another look.
            cause = version or str(e)
            if refused is None or refused.cause != cause:
                self._refuse(_CURRENT, Refusal(version or "unknown", str(e), cause), e)
                log.error("kept bundle %s: %s", self._slot.version, e)

    async def _follow_trials(self) -> None:
        for role in ROLES:
            await self._follow_trial(role)

    async def _follow_trial(self, role: Role) -> None:
        wanted: Trial | None = None
        cause: object = None
        refused, on = self.refused.get(role), self._on.get(role)
        try:
            wanted = await anyio.to_thread.run_sync(self._trials.read, role)
            if wanted is None:
                if on is not None or (refused is not None and refused.cause is not None):
                    self._end(role)
                return
            cause = wanted, (self._folder / wanted.version / MANIFEST).exists()
            if (on is not None and on.trial == wanted) or (refused is not None and refused.cause == cause):
                return
            bundle = await self._get(self._store.path(wanted.version))
            if role == "split":
                loading.check_stands_in(bundle, self._slot.serving().current)
            self._try(role, OnTrial(bundle, wanted))
        except ReelrankError as e:
            cause = cause or str(e)
            if refused is None or refused.cause != cause:
                self._end(role)  # it may be another version that is on trial still, and is not wanted now
                self._refuse(role, Refusal(wanted.version if wanted else "unknown", str(e), cause), e)
                log.error("no %s, bundle %s answers alone: %s", role, self._slot.version, e)

    # --- changing what answers

    def _swap(self, bundle: Bundle) -> None:
        if self._slot.version not in (None, bundle.manifest.version):
            self._before = self._slot.version
        self._accept(_CURRENT)
        split = self._on.get("split")
        if split is not None:
            try:
                loading.check_stands_in(split.bundle, bundle)
            except BundleError as e:
                del self._on["split"]
                cause = split.trial, True
                self._refuse("split", Refusal(split.trial.version, str(e), cause), e)
                log.error("the split of %s ended: %s", split.trial.version, e)
        elif (refused := self.refused.get("split")) is not None and refused.cause is not None:
            self._accept("split")  # it may go with this one
        self._metrics.serving(bundle.manifest.version, bundle.provider)
        self._swapped(bundle)
        self._arrange(bundle)

    def _try(self, role: Role, trial: OnTrial) -> None:
        self._accept(role)
        self._on[role] = trial
        self._arrange(self._slot.take())

    def _end(self, role: Role) -> None:
        self._accept(role)
        self._on.pop(role, None)
        self._arrange(self._slot.take())

    def _arrange(self, current: Bundle) -> None:
        """Let requests take these; forget the bundles that have no part any more."""
        # A trial of what is current has nothing to try; it goes on when another version is.
        on = {r: t for r, t in self._on.items() if t.trial.version != current.manifest.version}
        self._slot.swap(Serving(current, on.get("split"), on.get("shadow")))
        for role in ROLES:
            trial = on[role].trial if role in on else None
            self._metrics.trying(role, trial.version if trial else None, trial.share if trial else 0.0)
        mine = {t.trial.version: t.bundle for t in self._on.values()}
        if self._before is not None and (before := self._held.get(self._before)) is not None:
            mine[self._before] = before
        self._held = mine | {current.manifest.version: current}

    def _refuse(self, role: str, refusal: Refusal, error: ReelrankError) -> None:
        self.refused[role] = refusal
        self._metrics.refuse(role, refusal.version, error)

    def _accept(self, role: str) -> None:
        self.refused.pop(role, None)
        self._metrics.accept(role)

    # --- bundles

    async def _get(self, path: Path) -> Bundle:
        held = self._held.get(path.name)
        if held is None:
            return await self._read(path)
        if path.name != self._before:  # one that answered everybody before may do so again, and at once
            await anyio.to_thread.run_sync(self._recorded.replay, held)
        self._metrics.reloads.labels("held").inc()
        return held

    async def _read(self, path: Path, *, only: bool = False) -> Bundle:
        bundle = await anyio.to_thread.run_sync(
            lambda: loading.load(
                path, self._device, self._recorded, gpu_memory_mib=self._gpu_memory_mib, only=only
            )
        )
        self._metrics.reloads.labels("loaded").inc()
        return bundle

    def _current(self) -> str | None:
        return self._store.current() if (self._folder / CURRENT).exists() else None

    def _versioned(self, version: str) -> Path:
        if version not in self._store.versions():
            raise BundleNotFound(f"There is no version {version!r}; GET /v1/models lists what there is.")
        return self._store.path(version)

    def _refuse_if_fixed(self) -> None:
        if self._fixed:
            raise BundleError(FIXED.format(self._folder))
