"""Slates of several users in one run of the ranker, for a device that takes as long for many as for one.

On a CPU this would only make the first wait for the last; there every slate is a run of its own. Shapes are
rounded up to a few buckets, which are run once before anybody waits: a GPU plans its work anew for each.

Shape suffixes: B users of a run, L steps, N candidates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.features import Array
from models.runtime import Bundle
from models.vocabulary import PADDING

USERS: Final = (1, 2, 4, 8, 16, 32, 64)
CANDIDATES: Final = (64, 128, 256, 512, 1024, 2048)
"""Buckets of B and N. A run with more candidates a user than the last has as many as it needs."""

MOST: Final = 32_768
"""Candidates of one run, those that fill up its bucket too. A user with more has a run alone."""

DELAY_S: Final = 0.001
"""How long the first of an idle device waits for others to join it."""

_BEFORE: Final = frozenset({"sequence_ids", "sequence_feedback", "sequence_age_s"})
"""Filled up in front: the newest step stays the last."""
_EMPTY: Final[Mapping[str, float]] = {"candidate_ids": 1, "candidate_duration_s": np.nan}
"""What fills up the rest, where it is not 0: candidates nobody knows."""


@dataclass(frozen=True, slots=True)
class _Slate:
    inputs: Mapping[str, Array]
    answer: asyncio.Future[dict[str, Array]]

    @property
    def candidates(self) -> int:
        return int(self.inputs["candidate_ids"].shape[1])


class Batches:
    """Collects slates while the device is busy, and for a moment when it is not; then runs them together.

    Args:
        most: see `MOST`.
        delay_s: see `DELAY_S`.
    """

    def __init__(self, *, most: int = MOST, delay_s: float = DELAY_S) -> None:
        self._most = most
        self._delay_s = delay_s
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._waiting: dict[tuple[int, tuple[str, ...]], tuple[Bundle, list[_Slate]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False

    async def run(
        self, bundle: Bundle, inputs: Mapping[str, Array], outputs: Sequence[str]
    ) -> dict[str, Array]:
        """`Bundle.run_ranker` of one slate, perhaps together with others of the same bundle and outputs.

        Args:
            bundle: that answers.
            inputs: of one user.
            outputs: names.
        """
        loop = asyncio.get_running_loop()
        slate = _Slate(inputs, loop.create_future())
        # A bundle that somebody waits for lives, so that its id is nobody else's.
        _, slates = self._waiting.setdefault((id(bundle), tuple(outputs)), (bundle, []))
        slates.append(slate)
        if not self._busy:
            if _cost(slates) >= self._most:
                self._begin()
            elif self._timer is None:
                self._timer = loop.call_later(self._delay_s, self._begin)
        return await slate.answer

    def close(self) -> None:
        """End the thread, after the run it is in."""
        if self._timer is not None:
            self._timer.cancel()
        self._device.shutdown()

    def _begin(self) -> None:
        """Run as many of those who have waited longest as fit; the next follow when they are done."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._busy or not self._waiting:
            return
        key = next(iter(self._waiting))
        bundle, slates = self._waiting.pop(key)
        taken = _fitting(slates, self._most)
        if left := slates[taken:]:
            self._waiting[key] = bundle, left  # behind the others
        now = [slate for slate in slates[:taken] if not slate.answer.done()]
        self._busy = bool(now)
        if not now:
            self._begin()
            return
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._device, ranked_together, bundle, [s.inputs for s in now], key[1])
        done.add_done_callback(lambda found: self._end(now, found))

    def _end(self, slates: Sequence[_Slate], found: asyncio.Future[list[dict[str, Array]]]) -> None:
        self._busy = False
        error = found.exception()
        for place, slate in enumerate(slates):
            if slate.answer.done():
                continue  # whoever waited has gone
            if error is not None:
                slate.answer.set_exception(error)
            else:
                slate.answer.set_result(found.result()[place])
        self._begin()


def ranked_together(
    bundle: Bundle, slates: Sequence[Mapping[str, Array]], outputs: Sequence[str]
) -> list[dict[str, Array]]:
    """One run of the ranker for several slates, filled up to a bucket.

    Returns:
        The outputs of each slate, as `Bundle.run_ranker` gives them for it alone.
    """
    users = bucket(len(slates), USERS)
    candidates = bucket(max(s["candidate_ids"].shape[1] for s in slates), CANDIDATES)
    steps = bundle.manifest.sequence_length
    inputs: dict[str, Array] = {}
    for name, first in slates[0].items():
        shape = (users, *_filled(name, first.shape[1:], steps, candidates))
        together = np.full(shape, _EMPTY.get(name, PADDING), first.dtype)
        for row, slate in enumerate(slates):
            own = slate[name][0]
            if name in _BEFORE:
                together[row, shape[1] - len(own) :] = own
            else:
                together[row, : len(own)] = own
        inputs[name] = together
    found = bundle.run_ranker(inputs, outputs)
    return [
        {name: x[row : row + 1, : slate["candidate_ids"].shape[1]] for name, x in found.items()}
        for row, slate in enumerate(slates)
    ]


def bucket(size: int, buckets: Sequence[int]) -> int:
    """The smallest bucket that holds so many; the size itself if none does."""
    return next((b for b in buckets if b >= size), size)


def _filled(name: str, shape: tuple[int, ...], steps: int, candidates: int) -> tuple[int, ...]:
    if name in _BEFORE:
        return (steps, *shape[1:])
    return (candidates, *shape[1:]) if name.startswith("candidate_") else shape


def _cost(slates: Sequence[_Slate]) -> int:
    """Candidates of a run of these, filled up."""
    return bucket(len(slates), USERS) * bucket(max(s.candidates for s in slates), CANDIDATES)


def _fitting(slates: Sequence[_Slate], most: int) -> int:
    """How many of these, from the first, a run can have."""
    taken = 1
    while taken < min(len(slates), USERS[-1]) and _cost(slates[: taken + 1]) <= most:
        taken += 1
    return taken
