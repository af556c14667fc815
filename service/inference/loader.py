"""From a folder to a bundle that may answer: loaded, self-tested, warmed up, run through sampled traffic."""

from __future__ import annotations

import logging
from pathlib import Path

import anyio.to_thread

from models.errors import ReelrankError, SelfTestFailed
from models.runtime import Bundle, Device
from service.inference.serving_set import Serving
from service.inference.traffic_sample import TrafficSample
from service.inference.warmup import warm_up
from service.telemetry.bundles import BundleMetrics

log = logging.getLogger("reelrank.bundles")


class BundleLoader:
    """Loads bundles off the event loop, unless they are in memory already.

    Args:
        device: where the graphs shall run.
        gpu_memory_mib: see `Bundle.load`.
        sample: requests that every bundle is run through.
        metrics: where loads are counted.
    """

    def __init__(
        self, device: Device, gpu_memory_mib: int, sample: TrafficSample, metrics: BundleMetrics
    ) -> None:
        self._device = device
        self._gpu_memory_mib = gpu_memory_mib
        self._sample = sample
        self._metrics = metrics

    async def get(self, path: Path, serving: Serving) -> Bundle:
        """Return a bundle that passes every test, from the serving set if it is there, else from the disk.

        Raises:
            BundleError: it cannot be used.
        """
        bundle = serving.in_memory().get(path.name)
        if bundle is None:
            return await self.load(path)
        if bundle is not serving.previous:  # which answered all users, and may do so again at once
            await anyio.to_thread.run_sync(self._sample.replay, bundle)
        self._metrics.reloads.labels("held").inc()
        return bundle

    async def load(self, path: Path, *, only: bool = False) -> Bundle:
        """Read a version from the disk and test it.

        Args:
            path: the version's folder.
            only: there is no other bundle: failing on sampled traffic is then logged and no more, because no
                answer at all would be worse than those few.

        Raises:
            BundleError: it cannot be used; see `Bundle.load`.
        """
        bundle = await anyio.to_thread.run_sync(self._load, path, only)
        self._metrics.reloads.labels("loaded").inc()
        return bundle

    def _load(self, path: Path, only: bool) -> Bundle:
        bundle = Bundle.load(path, device=self._device, gpu_memory_mib=self._gpu_memory_mib)
        try:
            warm_up(bundle)
        except ReelrankError:
            raise
        except Exception as e:  # onnxruntime raises a class of its own per status code, without a common base
            raise SelfTestFailed(f"{path} fails on a synthetic request: {str(e).splitlines()[0]}") from e
        try:
            self._sample.replay(bundle)
        except SelfTestFailed as e:
            if not only:
                raise
            log.error("serving it all the same, there is no other: %s", e)
        return bundle
