"""The serving set: the active bundle with its canary and its shadow, and which of them answers a user."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from models.errors import BundleError, NotReady, ReelrankError
from models.runtime import Bundle
from models.signals import Signals
from service.inference.experiments import Assignment, LoadedExperiment, assignment
from service.inference.rollout import ROLES, Role, Rollout, check_compatible
from service.telemetry.bundles import BundleMetrics

log = logging.getLogger("reelrank.bundles")


@dataclass(frozen=True, slots=True)
class LoadedRollout:
    """A bundle beside the active one, and its share."""

    bundle: Bundle
    rollout: Rollout


@dataclass(frozen=True, slots=True)
class ServingSet:
    """The bundles that answer. Immutable: labels, features and both graphs of one answer are of one
    version."""

    active: Bundle
    split: LoadedRollout | None = None
    """Answers its share of the users instead of the active one."""
    shadow: LoadedRollout | None = None
    """Scores its share of the requests after they were answered."""
    experiments: tuple[LoadedExperiment, ...] = ()
    """Their arms answer their users, before the split does."""

    @property
    def signals(self) -> tuple[Signals, ...]:
        """The own signals that the active bundle knows, and those that others with a part know, if they are
        other ones."""
        if self.split is None and not self.experiments:
            return (self.active.manifest.signals,)
        others = [self.split.bundle] if self.split is not None else []
        others += [bundle for loaded in self.experiments for bundle in loaded.bundles if bundle is not None]
        return tuple(dict.fromkeys(bundle.manifest.signals for bundle in (self.active, *others)))

    def assignment(self, user_id: str) -> Assignment | None:
        """Return the arm of a user who is in an experiment."""
        return assignment(user_id, self.experiments) if self.experiments else None

    def for_user(self, user_id: str) -> Bundle:
        """Return the bundle that answers this user."""
        if (assigned := self.assignment(user_id)) is not None:
            return assigned.bundle or self.active
        split = self.split
        return split.bundle if split is not None and split.rollout.includes(user_id) else self.active


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a version does not have the role it should have."""

    version: str
    detail: str
    cause: object
    """State of the folder that led to this; only another one is tried again. `None`: an operator's
    request."""


class Serving:
    """The serving set of this process, replaced as a whole. A request takes it once and finishes on it.

    Args:
        metrics: of bundles.
        on_activate: called with every bundle that becomes the active one.
    """

    def __init__(
        self, metrics: BundleMetrics, on_activate: Callable[[Bundle], None] = lambda bundle: None
    ) -> None:
        self._metrics = metrics
        self._on_activate = on_activate
        self._current: ServingSet | None = None
        self._rollouts: dict[Role, LoadedRollout] = {}
        self._experiments: tuple[LoadedExperiment, ...] = ()
        self._previous: Bundle | None = None
        self.refused: dict[str, Refusal] = {}
        """By role: `current`, `split`, `shadow`, `experiment NAME`."""

    @property
    def version(self) -> str | None:
        """Version of the active bundle, if there is one."""
        return self._current.active.manifest.version if self._current is not None else None

    @property
    def previous(self) -> Bundle | None:
        """The bundle that was active before, which stays in memory: going back to it is a swap."""
        return self._previous

    def get(self) -> ServingSet:
        """Return the serving set.

        Raises:
            NotReady: no bundle is loaded yet.
        """
        if self._current is None:
            raise NotReady("No bundle is loaded. Promote one: `python -m training promote VERSION`.")
        return self._current

    def active(self) -> Bundle:
        """Return the active bundle, for what concerns no user.

        Raises:
            NotReady: no bundle is loaded yet.
        """
        return self.get().active

    def in_memory(self) -> dict[str, Bundle]:
        """Return every bundle with a part, and the previous one, by version."""
        active = self._current.active if self._current is not None else None
        bundles = [self._previous, active, *(loaded.bundle for loaded in self._rollouts.values())]
        bundles += [bundle for loaded in self._experiments for bundle in loaded.bundles]
        return {bundle.manifest.version: bundle for bundle in bundles if bundle is not None}

    def rollout(self, role: Role) -> Rollout | None:
        """Return the rollout that is loaded for a role."""
        loaded = self._rollouts.get(role)
        return loaded.rollout if loaded is not None else None

    def activate(self, bundle: Bundle) -> None:
        """Make a bundle the active one. A split that is not compatible with it ends."""
        if self.version not in (None, bundle.manifest.version):
            self._previous = self.active()
        self.clear_refusal("current")
        split = self._rollouts.get("split")
        if split is not None:
            try:
                check_compatible(split.bundle, bundle)
            except BundleError as e:
                del self._rollouts["split"]
                self.refuse("split", Refusal(split.rollout.version, str(e), (split.rollout, True)), e)
                log.error("the split of %s ended: %s", split.rollout.version, e)
        elif (refused := self.refused.get("split")) is not None and refused.cause is not None:
            self.clear_refusal("split")  # it may be compatible with this one
        self._metrics.serving(bundle.manifest.version, bundle.provider)
        self._on_activate(bundle)
        self._publish_serving_set(bundle)

    def start_rollout(self, role: Role, loaded: LoadedRollout) -> None:
        """Give a bundle a role beside the active one."""
        self.clear_refusal(role)
        self._rollouts[role] = loaded
        self._publish_serving_set(self.active())

    def stop_rollout(self, role: Role) -> None:
        """End the rollout of a role, and forget its refusal."""
        self.clear_refusal(role)
        self._rollouts.pop(role, None)
        self._publish_serving_set(self.active())

    def replace_experiments(self, loaded: Sequence[LoadedExperiment]) -> None:
        """Let the arms of these experiments answer their users, and of no others."""
        self._experiments = tuple(loaded)
        self._publish_serving_set(self.active())

    def refuse(self, role: str, refusal: Refusal, error: ReelrankError) -> None:
        """Remember that a version cannot have its role."""
        self.refused[role] = refusal
        self._metrics.refuse(role, refusal.version, error)

    def clear_refusal(self, role: str) -> None:
        """Forget the refusal of a role, if there is one."""
        self.refused.pop(role, None)
        self._metrics.accept(role)

    def _publish_serving_set(self, active: Bundle) -> None:
        # A rollout of the active version has nothing to try; it goes on when another version is active.
        effective = {r: x for r, x in self._rollouts.items() if x.rollout.version != active.manifest.version}
        self._current = ServingSet(active, effective.get("split"), effective.get("shadow"), self._experiments)
        for role in ROLES:
            rollout = effective[role].rollout if role in effective else None
            self._metrics.rollout(
                role, rollout.version if rollout else None, rollout.share if rollout else 0.0
            )
