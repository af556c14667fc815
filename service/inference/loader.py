"""From a folder to a bundle that may answer: loaded, self-tested, warmed up, run through sampled traffic."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from onnxruntime import RunOptions

from models.errors import ReelrankError, SelfTestFailed
from models.runtime import Bundle, Device
from service.inference.serving_set import Serving
from service.inference.traffic_sample import TrafficSample
from service.inference.warmup import warm_up
from service.telemetry.bundles import BundleMetrics

log = logging.getLogger("reelrank.bundles")

LIMIT_S: Final = 60.0
"""For loading and all tests of a bundle. A CPU takes about a second; a GPU plans for every size of batch."""

T = TypeVar("T")


class BundleLoader:
    """Loads bundles off the event loop, unless they are in memory already.

    Args:
        device: where the graphs shall run.
        gpu_memory_mib: see `Bundle.load`.
        sample: requests that every bundle is run through.
        metrics: where loads are counted.
        limit_s: see `LIMIT_S`.
    """

    def __init__(
        self,
        device: Device,
        gpu_memory_mib: int,
        sample: TrafficSample,
        metrics: BundleMetrics,
        limit_s: float = LIMIT_S,
    ) -> None:
        self._device = device
        self._gpu_memory_mib = gpu_memory_mib
        self._sample = sample
        self._metrics = metrics
        self._limit_s = limit_s
        self._running: set[RunOptions] = set()
        self._stopped = False

    def stop(self) -> None:
        """Let what is loading now, and all later, fail."""
        self._stopped = True
        for runs in self._running:
            runs.terminate = True

    async def get(self, path: Path, serving: Serving) -> Bundle:
        """Return a bundle that passes every test, from the serving set if it is there, else from the disk.

        Raises:
            BundleError: it cannot be used.
        """
        bundle = serving.in_memory().get(path.name)
        if bundle is None:
            return await self.load(path)
        if bundle is not serving.previous:  # which answered all users, and may do so again at once
            await self._limited(path, lambda runs: self._sample.replay(replace(bundle, runs=runs)))
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
        bundle = await self._limited(path, partial(self._load, path, only))
        self._metrics.reloads.labels("loaded").inc()
        return bundle

    async def _limited(self, path: Path, work: Callable[[RunOptions], T]) -> T:
        """Call `work` in a thread of its own. It ends after `limit_s` or when the caller is cancelled, and a
        thread that would not end keeps no process from exiting.

        Raises:
            SelfTestFailed: it took too long.
        """
        runs = RunOptions()
        runs.terminate = self._stopped
        done: Future[T] = Future()
        done.set_running_or_notify_cancel()  # a cancelled caller must not cancel it: `run` sets a result

        def run() -> None:
            try:
                done.set_result(work(runs))
            except BaseException as e:
                done.set_exception(e)

        self._running.add(runs)
        threading.Thread(target=run, name="loader", daemon=True).start()
        try:
            async with asyncio.timeout(self._limit_s):
                return await asyncio.wrap_future(done)
        except TimeoutError:
            raise SelfTestFailed(
                f"{path} was not loaded and tested within {self._limit_s:g} s. A graph does not end, or the "
                "machine is too busy: export it again, or try again later."
            ) from None
        finally:
            self._running.remove(runs)
            if not done.done():
                runs.terminate = True

    def _load(self, path: Path, only: bool, runs: RunOptions) -> Bundle:
        bundle = Bundle.load(path, device=self._device, gpu_memory_mib=self._gpu_memory_mib, runs=runs)
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
