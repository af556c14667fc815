"""The place that holds the bundles which answer."""

from __future__ import annotations

from dataclasses import dataclass

from models.errors import NotReady
from models.runtime import Bundle
from service.inference.rollout import Trial


@dataclass(frozen=True, slots=True)
class OnTrial:
    """A loaded bundle beside the current one."""

    bundle: Bundle
    trial: Trial


@dataclass(frozen=True, slots=True)
class Serving:
    """Who answers what, at one moment."""

    current: Bundle
    split: OnTrial | None = None
    """Answers its share of the users instead of the current one."""
    shadow: OnTrial | None = None
    """Scores its share of the requests after they were answered."""

    def of_user(self, user_id: str) -> Bundle:
        """The bundle that answers this user."""
        split = self.split
        return split.bundle if split is not None and split.trial.includes(user_id) else self.current


class Slot:
    """One reference, swapped whole. A request takes it once and finishes on it: labels, features and both
    graphs of one user's answer come from one version."""

    def __init__(self) -> None:
        self._serving: Serving | None = None

    @property
    def version(self) -> str | None:
        """The current bundle's version, if there is one."""
        return self._serving.current.manifest.version if self._serving is not None else None

    def serving(self) -> Serving:
        """The current bundle and those on trial.

        Raises:
            NotReady: none is loaded yet.
        """
        if self._serving is None:
            raise NotReady("No bundle is loaded. Promote one: `python -m training promote VERSION`.")
        return self._serving

    def take(self) -> Bundle:
        """The current bundle, for what concerns no user.

        Raises:
            NotReady: none is loaded yet.
        """
        return self.serving().current

    def swap(self, serving: Serving) -> None:
        """From now on, requests take these."""
        self._serving = serving
