"""Calibration: the seconds that slates predicted, against those that events say were watched.

One slate a second and process is remembered, its first videos with their predictions, until newer ones take
their places in a table of fixed size. An event that names its slate (`request_id`) is compared with what that
slate predicted, whichever process has ranked it: with several workers the table is a file that all of them
map. The table has digests in place of ids. Processes write it without a lock; a slot that is replaced while
another process reads it spoils one exposure of thousands.
"""

from __future__ import annotations

import math
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter

PERIOD_S: Final = 1.0
"""A process remembers at most one slate a period: tens of microseconds, and nothing of the others."""

REMEMBERED: Final = 32
"""First videos of a slate that are remembered."""

SLOTS: Final = 2**17
"""Videos that are remembered: those of an hour of one process, of a quarter of an hour of four. 6 MiB."""

STARTS_S: Final = (0, 5, 10, 20, 40, 80)
"""Where the bins of predicted means begin, seconds."""

FILE: Final = "predictions"
"""Of the table, in the folder that workers share."""

_SLOT: Final = np.dtype(
    [("key", "u8"), ("expected_s", "f8"), ("middle_s", "f8"), ("watched_s", "f8"), ("version", "S17")]
)


class Calibration:
    """The table and the counters of one process.

    Args:
        registry: where the metrics are registered.
        folder: that workers share; `None`: the table is this process's own.
        now_s: a monotonic clock, seconds.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        folder: Path | None = None,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        counter = partial(Counter, labelnames=["version", "from_s"], registry=registry)
        text = "Exposures that named a remembered slate, by the start of the bin of their predicted mean."
        self._exposures = counter("reelrank_calibration_exposures", text)
        text = "Seconds of these exposures that were predicted, as expected_watch_time_s."
        self._predicted = counter("reelrank_calibration_predicted_seconds", text)
        text = "Seconds of these exposures that were watched."
        self._watched = counter("reelrank_calibration_watched_seconds", text)
        text = "These exposures that were watched for longer than the predicted watch_time_s."
        self._longer = counter("reelrank_calibration_longer", text)
        self._slots = np.zeros(SLOTS, _SLOT) if folder is None else _shared_table(folder / FILE)
        self._now_s = now_s
        self._next_s = -math.inf

    def take_turn(self) -> bool:
        """Whether the slate of this moment is to be remembered; true once a period."""
        now_s = self._now_s()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + PERIOD_S
        return True

    def remember(
        self,
        version: str,
        request_id: str,
        user_id: str,
        predictions: Iterable[tuple[str, float, float]],
    ) -> None:
        """Remember what a slate predicted.

        Args:
            version: of the bundle that ranked it.
            request_id, user_id: of the slate.
            predictions: of each video its id, `expected_watch_time_s` and `watch_time_s`.
        """
        for video_id, expected_s, middle_s in predictions:
            key = _key(request_id, user_id, video_id)
            self._slots[key % SLOTS] = (key, expected_s, middle_s, math.nan, version.encode())

    def compare(self, request_id: str, user_id: str, video_id: str, watch_time_s: float) -> None:
        """Count an exposure that came back, if its slate is remembered.

        An exposure counts once, with the longest watch time of its events: those that come later add what
        they are longer by.
        """
        key = _key(request_id, user_id, video_id)
        slot = self._slots[key % SLOTS]
        if slot["key"] != key:
            return
        expected_s, middle_s, counted_s = (float(slot[n]) for n in ("expected_s", "middle_s", "watched_s"))
        start_s = STARTS_S[max(0, bisect_right(STARTS_S, expected_s) - 1)]
        labels = slot["version"].decode(), str(start_s)
        if is_first := math.isnan(counted_s):
            self._exposures.labels(*labels).inc()
            self._predicted.labels(*labels).inc(expected_s)
            counted_s = 0.0
        elif watch_time_s <= counted_s:
            return
        self._watched.labels(*labels).inc(watch_time_s - counted_s)
        if watch_time_s > middle_s and (is_first or counted_s <= middle_s):
            self._longer.labels(*labels).inc()
        slot["watched_s"] = watch_time_s


def _key(request_id: str, user_id: str, video_id: str) -> int:
    """A digest; ids hold no line breaks."""
    text = f"{request_id}\n{user_id}\n{video_id}".encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest())


def _shared_table(path: Path) -> npt.NDArray[np.void]:
    """The table in a file, which the first process makes; the process's own if there is no room for one."""
    size = SLOTS * _SLOT.itemsize
    try:
        with path.open("ab") as file:
            if hasattr(os, "posix_fallocate"):  # a disk that fills up later would end the process
                os.posix_fallocate(file.fileno(), 0, size)
            file.truncate(size)
    except OSError:
        return np.zeros(SLOTS, _SLOT)
    return np.memmap(path, _SLOT, mode="r+", shape=(SLOTS,))
