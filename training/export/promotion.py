"""Make a version the active one, unless it is worse than a constant."""

from __future__ import annotations

from pathlib import Path

from models.manifest import Manifest
from models.store import BundleStore
from training.verdict import refuse_worse_than_constant


def promote_version(version: str, bundles: Path, *, force: bool = False) -> None:
    """Make a version the active one.

    Args:
        version: its name.
        bundles: the folder of versions.
        force: also if it predicts watch time worse than a constant does.

    Raises:
        BadInput: it does, and that is not forced; or there is no such version.
    """
    store = BundleStore(bundles)
    evaluation = Manifest.read(store.path(version)).evaluation
    if evaluation is not None and not force:
        refuse_worse_than_constant(evaluation.comparisons)
    store.promote(version)
