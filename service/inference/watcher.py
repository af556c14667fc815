"""Follows the folder of versions: what `CURRENT`, `SPLIT` and `SHADOW` name is loaded and served."""

from __future__ import annotations

import logging

import anyio.to_thread

from models.errors import ReelrankError
from models.manifest import MANIFEST
from models.store import CURRENT, BundleStore
from service.inference import experiments
from service.inference.experiments import Experiment, ExperimentsFile, LoadedExperiment
from service.inference.loader import BundleLoader
from service.inference.rollout import ROLES, Role, Rollout, RolloutFiles, check_compatible
from service.inference.serving_set import LoadedRollout, Refusal, Serving

log = logging.getLogger("reelrank.bundles")


class FolderWatcher:
    """Compares the folder with the serving set. A bundle that cannot be used is logged once; another promote,
    or a manifest that appears or vanishes, is tried again. What cannot be read changes nothing, and is read
    again each time.

    Args:
        store: the versions.
        rollouts: the files beside them.
        experiments_file: likewise.
        loader: of bundles.
        serving: what is brought up to date.
    """

    def __init__(
        self,
        store: BundleStore,
        rollouts: RolloutFiles,
        experiments_file: ExperimentsFile,
        loader: BundleLoader,
        serving: Serving,
    ) -> None:
        self._store = store
        self._rollouts = rollouts
        self._experiments = experiments_file
        self._followed: object = None
        self._loader = loader
        self._serving = serving

    def current_version(self) -> str | None:
        """Return the version that `CURRENT` names; `None` where nothing was promoted yet.

        Raises:
            BundleNotFound, CorruptBundle: see `BundleStore.current`.
        """
        return self._store.current() if (self._store.root / CURRENT).exists() else None

    async def follow_current(self) -> None:
        """Activate the version that `CURRENT` names, if it is another."""
        serving, version = self._serving, None
        refused = serving.refused.get("current")
        try:
            version = await anyio.to_thread.run_sync(self.current_version)
            if version == serving.version and refused is not None and refused.cause is not None:
                serving.clear_refusal("current")  # `CURRENT` no longer names what could not be used
            if version is None or version == serving.version:
                return
            if refused is None or refused.cause != version:
                serving.activate(await self._loader.get(self._store.path(version), serving))
        except ReelrankError as e:
            cause = str(e) if version is None or _is_passing(e) else version
            if refused is None or refused.cause != cause:
                serving.refuse("current", Refusal(version or "unknown", str(e), cause), e)
                log.error("kept bundle %s: %s", serving.version, e)

    async def follow_rollouts(self) -> None:
        """Start and stop rollouts as `SPLIT` and `SHADOW` say. There must be an active bundle."""
        for role in ROLES:
            await self._follow_rollout(role)

    async def follow_experiments(self) -> None:
        """Start and stop experiments as `EXPERIMENTS` says. There must be an active bundle. One of which an
        arm cannot be used does not run."""
        serving = self._serving
        try:
            running = await anyio.to_thread.run_sync(self._experiments.running)
        except ReelrankError as e:
            if self._followed != str(e):
                self._followed = str(e)
                log.error("the experiments stay as they are: %s", e)
            return
        versions = [version for experiment in running for version in experiment.versions]
        there = [(self._store.root / version / MANIFEST).exists() for version in versions]
        state = running, there, serving.version
        if state == self._followed or (not running and self._followed is None):
            return
        roles = {_role(experiment) for experiment in running}
        for role in [role for role in serving.refused if role.startswith(_role()) and role not in roles]:
            serving.clear_refusal(role)
        loaded = []
        for experiment in running:
            role = _role(experiment)
            try:
                loaded.append(await self.load_experiment(experiment))
                if role in serving.refused:
                    serving.clear_refusal(role)
            except ReelrankError as e:
                serving.refuse(role, Refusal(", ".join(experiment.versions), str(e), state), e)
                log.error("experiment %s does not run: %s", experiment.name, e)
        serving.replace_experiments(loaded)
        self._followed = state

    async def load_experiment(self, experiment: Experiment) -> LoadedExperiment:
        """Load the bundles of the arms.

        Raises:
            BundleError: one cannot be used.
            Invalid: it cannot be used with the weights of its arm.
        """
        serving, bundles = self._serving, []
        for arm in experiment.arms:
            bundle = None
            if arm.version != experiments.CURRENT:
                bundle = await self._loader.get(self._store.path(arm.version), serving)
                check_compatible(bundle, serving.active())
            experiments.check_weights(arm, (bundle or serving.active()).manifest)
            bundles.append(bundle)
        return LoadedExperiment(experiment, bundles)

    async def _follow_rollout(self, role: Role) -> None:
        serving = self._serving
        rollout: Rollout | None = None
        cause: object = None
        refused, loaded = serving.refused.get(role), serving.rollout(role)
        try:
            rollout = await anyio.to_thread.run_sync(self._rollouts.read, role)
            if rollout is None:
                if loaded is not None or (refused is not None and refused.cause is not None):
                    serving.stop_rollout(role)
                return
            cause = rollout, (self._store.root / rollout.version / MANIFEST).exists()
            if loaded == rollout:
                if refused is not None and refused.cause is not None:
                    serving.clear_refusal(role)  # the file can be read again
                return
            if refused is not None and refused.cause == cause:
                return
            bundle = await self._loader.get(self._store.path(rollout.version), serving)
            if role == "split":
                check_compatible(bundle, serving.active())
            serving.start_rollout(role, LoadedRollout(bundle, rollout))
        except ReelrankError as e:
            passing = _is_passing(e)
            cause = str(e) if cause is None or passing else cause
            if refused is None or refused.cause != cause:
                if not passing:
                    serving.stop_rollout(role)  # it may be of another version, which is not named any more
                serving.refuse(role, Refusal(rollout.version if rollout else "unknown", str(e), cause), e)
                log.error(
                    "the %s beside bundle %s %s: %s", role, serving.version, "stays" if passing else "ends", e
                )


def _role(experiment: Experiment | None = None) -> str:
    return f"experiment {experiment.name if experiment else ''}"


def _is_passing(error: ReelrankError) -> bool:
    """Return whether a file could not be read, which says nothing of what is in it."""
    return isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError)
