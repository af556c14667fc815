"""The bundles of one process: loaded at the start, followed in their folder, changed by operators."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import anyio.to_thread

from models.errors import BundleError, BundleNotFound
from models.manifest import MANIFEST, Manifest
from models.runtime import GPU_MEMORY_MIB, Device
from models.store import BundleStore
from service.inference.experiments import Experiment, ExperimentsFile, NewExperiment
from service.inference.loader import BundleLoader
from service.inference.rollout import Role, Rollout, RolloutFiles, check_compatible
from service.inference.serving_set import LoadedRollout, Refusal, Serving
from service.inference.traffic_sample import TrafficSample
from service.inference.watcher import FolderWatcher
from service.telemetry.bundles import BundleMetrics

FIXED: Final = "The service was started with one version's folder ({}); start it with the folder of versions."


class Bundles:
    """Loads, self-tests and warms up a bundle off the event loop, and only then lets it answer.

    A bundle that fails any of it changes nothing: the serving set goes on answering. The bundle that was
    replaced last stays in memory, so that going back to it is a swap.

    Args:
        folder: a folder of versions, or one version's folder (it has a manifest), which is then fixed.
        serving: the bundles that answer.
        device: where the graphs shall run.
        gpu_memory_mib: see `Bundle.load`.
        rollouts: those of roles without a file in the folder.
        sample: requests that a bundle is run through.
        metrics: where swaps and refusals are counted.
    """

    def __init__(
        self,
        folder: Path,
        serving: Serving,
        device: Device,
        gpu_memory_mib: int = GPU_MEMORY_MIB,
        *,
        rollouts: Mapping[Role, Rollout | None],
        sample: TrafficSample,
        metrics: BundleMetrics,
    ) -> None:
        self._folder = folder
        self._serving = serving
        self._fixed = (folder / MANIFEST).exists()
        if self._fixed and any(rollouts.values()):
            raise BundleError(f"A version cannot be on trial beside a fixed one. {FIXED.format(folder)}")
        self._store = BundleStore(folder)
        self._rollouts = RolloutFiles(folder, rollouts)
        self._loader = BundleLoader(device, gpu_memory_mib, sample, metrics)
        self.experiments = ExperimentsFile(folder)
        self._watcher = FolderWatcher(self._store, self._rollouts, self.experiments, self._loader, serving)
        self._lock = asyncio.Lock()

    @property
    def refused(self) -> Mapping[str, Refusal]:
        """Versions that cannot have the role they should have, by role."""
        return self._serving.refused

    async def start(self) -> None:
        """Load the current version and the rollouts. Versions of which none was promoted yet are left to
        `follow`; so is a rollout that cannot be used.

        Raises:
            BundleNotFound: there is no such folder, it has no version, or that which `CURRENT` names is gone.
            BundleError: the version is there and cannot be used.
        """
        if not self._folder.is_dir():
            raise BundleNotFound(f"{self._folder} is not a folder; name a folder of bundles with --bundle.")
        if not self._fixed and not self._store.versions():
            raise BundleNotFound(
                f"{self._folder} holds no version, such as 20260101-0123abcd/{MANIFEST}; name a folder of "
                "bundles with --bundle, or export one to it: python -m training export RUN --to FOLDER."
            )
        async with self._lock:
            if self._fixed:
                self._serving.activate(await self._loader.load(self._folder, only=True))
            elif (version := self._watcher.current_version()) is not None:
                self._serving.activate(await self._loader.load(self._store.path(version), only=True))
                await self._watcher.follow_rollouts()
                await self._watcher.follow_experiments()

    async def follow(self) -> None:
        """Compare the folder with the serving set once, and load and serve what it names. A bundle that
        cannot be used is logged, once."""
        if self._fixed:
            return
        async with self._lock:
            await self._watcher.follow_current()
            if self._serving.version is not None:
                await self._watcher.follow_rollouts()
                await self._watcher.follow_experiments()

    async def activate(self, version: str) -> None:
        """Load a version, promote it, and let it answer. Of the current version, nothing happens.

        Raises:
            BundleNotFound: no such version.
            BundleError: it cannot be used, or the service was started with one fixed version.
        """
        self._refuse_if_fixed()
        async with self._lock:
            path = self._path(version)
            if version == self._serving.version == self._watcher.current_version():
                return
            try:
                bundle = await self._loader.get(path, self._serving)
                await anyio.to_thread.run_sync(self._store.promote, version)
            except BundleError as e:
                self._serving.refuse("current", Refusal(version, str(e), None), e)
                raise
            self._serving.activate(bundle)

    async def rollback(self) -> str:
        """Go back to the version that was current before; it is tested before it answers.

        Raises:
            BundleNotFound: there is none to go back to.
            BundleError: it cannot be used; then the current version stays, in memory and in `CURRENT`.
        """
        self._refuse_if_fixed()
        async with self._lock:
            version = await anyio.to_thread.run_sync(self._store.previous)
            if version is None:
                raise BundleNotFound("There is no version to go back to; GET /v1/models lists what there is.")
            try:
                bundle = await self._loader.get(self._store.path(version), self._serving)
                moved_to = await anyio.to_thread.run_sync(self._store.rollback)
                if moved_to != version:  # another process moved `CURRENT` meanwhile
                    bundle = await self._loader.get(self._store.path(moved_to), self._serving)
            except BundleError as e:
                self._serving.refuse("current", Refusal(version, str(e), None), e)
                raise
            self._serving.activate(bundle)
            return moved_to

    async def start_rollout(self, role: Role, version: str, share: float) -> None:
        """Give a version a share beside the current one, in every worker and after a restart; with a share
        of 0, stop that. A rollout of another version in that role ends.

        Raises:
            NotReady: there is no current version.
            BundleNotFound: no such version.
            BundleError: it cannot be used, the role is another version's (share 0), or the service was
                started with one fixed version.
            BadInput: the folder cannot be written.
        """
        self._refuse_if_fixed()
        async with self._lock:
            active = self._serving.active()
            path = self._path(version)
            rollout = Rollout(version, share)
            if share == 0:
                await self._stop_rollout(role, rollout)
                return
            try:
                bundle = await self._loader.get(path, self._serving)
                if role == "split":
                    check_compatible(bundle, active)
            except BundleError as e:
                self._serving.refuse(role, Refusal(version, str(e), None), e)
                raise
            await anyio.to_thread.run_sync(self._rollouts.write, role, rollout)
            self._serving.start_rollout(role, LoadedRollout(bundle, rollout))

    async def start_experiment(self, new: NewExperiment) -> Experiment:
        """Let the arms of an experiment answer their users, in every worker and after a restart.

        Raises:
            NotReady: there is no current version.
            BundleNotFound: an arm names no version.
            BundleError: one cannot be used, or the service was started with one fixed version.
            Invalid: there was one of this name, not enough users are free, or weights do not fit.
            BadInput: the folder cannot be written.
        """
        self._refuse_if_fixed()
        async with self._lock:
            draft = Experiment(name=new.name, share=new.share, arms=new.arms, buckets=[], started_ms=0)
            for version in draft.versions:
                self._path(version)
            await self._watcher.load_experiment(draft)
            started = await anyio.to_thread.run_sync(self.experiments.start, new)
            await self._watcher.follow_experiments()
            return started

    async def stop_experiment(self, name: str) -> Experiment:
        """End an experiment.

        Raises:
            NotReady: there is no current version.
            BundleNotFound: there is none of this name.
            BundleError: the file cannot be read, or the service was started with one fixed version.
            BadInput: the folder cannot be written.
        """
        self._refuse_if_fixed()
        async with self._lock:
            self._serving.active()
            stopped = await anyio.to_thread.run_sync(self.experiments.stop, name)
            await self._watcher.follow_experiments()
            return stopped

    def stop_loading(self) -> None:
        """Let loading fail from now on: the process ends, and no request waits for a bundle."""
        self._loader.stop()

    def manifests(self) -> dict[str, Manifest | str]:
        """Return every version's manifest, or what is wrong with it. Reads the disk."""
        return {version: _manifest(path) for version, path in self._folders().items()}

    def manifest(self, version: str) -> Manifest | str:
        """Return one version's manifest, or what is wrong with it. Reads the disk.

        Raises:
            BundleNotFound: no such version.
        """
        folders = self._folders()
        if version not in folders:
            raise _unknown(version)
        return _manifest(folders[version])

    def _folders(self) -> dict[str, Path]:
        if self._fixed:
            return {self._folder.name: self._folder}
        return {version: self._store.path(version) for version in self._store.versions()}

    async def _stop_rollout(self, role: Role, stopped: Rollout) -> None:
        running = await anyio.to_thread.run_sync(self._rollouts.read, role)
        if running is not None and running.version != stopped.version:
            raise BundleError(f"{stopped.version} has no {role}; it is {running.version}'s.")
        await anyio.to_thread.run_sync(self._rollouts.write, role, stopped)
        self._serving.stop_rollout(role)

    def _path(self, version: str) -> Path:
        if version not in self._store.versions():
            raise _unknown(version)
        return self._store.path(version)

    def _refuse_if_fixed(self) -> None:
        if self._fixed:
            raise BundleError(FIXED.format(self._folder))


def _manifest(folder: Path) -> Manifest | str:
    try:
        return Manifest.read(folder)
    except BundleError as e:
        return str(e)


def _unknown(version: str) -> BundleNotFound:
    return BundleNotFound(f"There is no version {version!r}; GET /v1/models lists what there is.")
