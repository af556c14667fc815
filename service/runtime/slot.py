"""The place that holds the current bundle."""

from __future__ import annotations

from models.errors import NotReady
from models.runtime import Bundle


class Slot:
    """One reference, swapped whole. A request takes the bundle once and finishes on it: labels, features and
    both graphs of one answer come from one version."""

    def __init__(self) -> None:
        self._bundle: Bundle | None = None

    @property
    def version(self) -> str | None:
        """The current bundle's version, if there is one."""
        return self._bundle.manifest.version if self._bundle is not None else None

    def take(self) -> Bundle:
        """The current bundle.

        Raises:
            NotReady: none is loaded yet.
        """
        if self._bundle is None:
            raise NotReady("No bundle is loaded. Promote one: `python -m training promote VERSION`.")
        return self._bundle

    def swap(self, bundle: Bundle) -> None:
        """From now on, requests take this one."""
        self._bundle = bundle
