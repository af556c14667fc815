"""Make a version the active one, unless it is worse than a constant or fails what is required of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from models.errors import BadInput, BundleNotFound
from models.manifest import Manifest
from models.store import BundleStore
from training.verdict import refuse_worse_than_constant

DEFAULT: Final = Path("default")
"""Instead of a file: the requirements that ship."""


def promote_version(
    version: str,
    bundles: Path,
    *,
    require: Path | None = None,
    force: bool = False,
    on_note: Callable[[str], None] = lambda _: None,
) -> None:
    """Make a version the active one.

    Args:
        version: its name.
        bundles: the folder of versions.
        require: a file of requirements, or `default`.
        force: also if it predicts watch time worse than a constant does, or fails a requirement.
        on_note: called with the table of requirements, and with what `force` has overridden.

    Raises:
        BadInput: it does or fails, and that is not forced; or there is no such version.
    """
    store = BundleStore(bundles)
    evaluation = Manifest.read(store.path(version)).evaluation
    if evaluation is not None and not force:
        refuse_worse_than_constant(evaluation.comparisons)
    if require is not None:
        _refuse_unmet(version, bundles, require, force=force, on_note=on_note)
    store.promote(version)


def requirements_table(version: str, bundles: Path, require: Path = DEFAULT) -> tuple[str, list[str]]:
    """Hold a version to requirements, beside the version that is active in its folder.

    Returns:
        The table in Markdown, and what is not met.

    Raises:
        BadInput, BundleNotFound, CorruptBundle, ContractMismatch, SelfTestFailed: see `check_requirements`.
    """
    from training.gate import Requirements, check_requirements, table  # these import ONNX Runtime

    store = BundleStore(bundles)
    try:
        active = store.current()
    except BundleNotFound:
        active = version
    found = check_requirements(
        Requirements.read(require),
        store.path(version),
        None if active == version else Manifest.read(store.path(active)),
    )
    return table(found), [each.about for each in found if not each.is_met]


def unmet_by_default(version: str, unmet: Sequence[str]) -> str:
    """Return the warning for a version that was promoted without `--require` and does not meet what ships."""
    return (
        f"warning: {version} is active although {_count(unmet)} ({'; '.join(unmet)}). `--require default` "
        "holds a bundle to them; `rollback` takes this one back."
    )


def _count(unmet: Sequence[str]) -> str:
    return f"{len(unmet)} {'requirement is' if len(unmet) == 1 else 'requirements are'} not met"


def _refuse_unmet(
    version: str, bundles: Path, require: Path, *, force: bool, on_note: Callable[[str], None]
) -> None:
    written, unmet = requirements_table(version, bundles, require)
    on_note(written)
    if not unmet:
        return
    count = _count(unmet)
    if not force:
        raise BadInput(
            f"{version} was not promoted: {count} ({'; '.join(unmet)}). Fit or choose another one, or "
            "promote it with --force."
        )
    on_note(f"--force: promoted although {count}")
