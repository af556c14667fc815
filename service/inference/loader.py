"""From a folder to a bundle that may answer: loaded, self-tested, warmed, run through recorded requests."""

from __future__ import annotations

import logging
from pathlib import Path

from models.errors import ContractMismatch, ReelrankError, SelfTestFailed
from models.runtime import GPU_MEMORY_MIB, Bundle, Device
from service.inference.traffic_sample import Recorded
from service.inference.warmup import warm

log = logging.getLogger("reelrank.bundles")


def load(
    path: Path,
    device: Device,
    recorded: Recorded,
    *,
    gpu_memory_mib: int = GPU_MEMORY_MIB,
    only: bool = False,
) -> Bundle:
    """Read a version and put it to every test.

    Args:
        path: the version's folder.
        device: where the graphs shall run.
        recorded: requests that were answered before.
        gpu_memory_mib: see `Bundle.load`.
        only: there is no other bundle to answer: failing on recorded requests is then logged and no more,
            because no answer at all would be worse than those few.

    Raises:
        BundleError: it cannot be used; see `Bundle.load`.
    """
    bundle = Bundle.load(path, device=device, gpu_memory_mib=gpu_memory_mib)
    try:
        warm(bundle)
    except ReelrankError:
        raise
    except Exception as e:  # onnxruntime raises a class of its own per status code, without a common base
        raise SelfTestFailed(f"{path} fails on a made-up request: {str(e).splitlines()[0]}") from e
    try:
        recorded.replay(bundle)
    except SelfTestFailed as e:
        if not only:
            raise
        log.error("serving it all the same, there is no other: %s", e)
    return bundle


def check_stands_in(bundle: Bundle, current: Bundle) -> None:
    """Whether users of `current` can be sent to `bundle`: what a client may ask of one it may ask of both.

    Raises:
        ContractMismatch: it lacks a label or an objective.
    """
    mine, theirs = bundle.manifest, current.manifest
    for what, missing in (
        ("label", set(theirs.labels) - set(mine.labels)),
        ("objective", set(theirs.objectives) - set(mine.objectives)),
    ):
        if missing:
            raise ContractMismatch(
                f"{mine.version} has no {what} {min(missing)!r}, which {theirs.version} serves: the users of "
                "a split would lose it. Export it with all of them, or try it as a shadow."
            )
