"""Slates of several users in one run of the ranker, for a device that takes as long for many as for one.

On a CPU this would only make the first wait for the last; there every slate is a run of its own. Shapes are
rounded up to a few buckets, which are run once at warm-up: a GPU plans its work anew for each.

Shape suffixes: B users of a run, L steps, H history entries, N candidates.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np

from models.features import HISTORY_LENGTH, Array
from models.runtime import Bundle
from models.vocabulary import PADDING

USERS: Final = (1, 2, 4, 8, 16, 32, 64)
CANDIDATES: Final = (64, 128, 256, 512, 1024, 2048)
"""Buckets of B and N. A run with more candidates a user than the last has as many as it needs."""

MAX_CANDIDATES: Final = 32_768
"""Candidates of one run, padding included. A user with more has a run alone."""

DELAY_S: Final = 0.001
"""How long the first slate of an idle device waits for others to join it."""

_PADDED_IN_FRONT: Final = ("sequence_", "history_")
"""Begins the names of inputs whose newest step or entry stays the last."""
_PADDING: Final[Mapping[str, float]] = {
    "candidate_ids": 1,
    "candidate_duration_s": np.nan,
    "candidate_numbers": np.nan,
}
"""Padding that is not 0: unknown candidates."""


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
        max_candidates: see `MAX_CANDIDATES`.
        delay_s: see `DELAY_S`.
    """

    def __init__(self, *, max_candidates: int = MAX_CANDIDATES, delay_s: float = DELAY_S) -> None:
        self._max_candidates = max_candidates
        self._delay_s = delay_s
        self._device = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._waiting: dict[tuple[int, tuple[str, ...]], tuple[Bundle, list[_Slate]]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._busy = False

    async def run(
        self, bundle: Bundle, inputs: Mapping[str, Array], outputs: Sequence[str]
    ) -> dict[str, Array]:
        """Run the ranker for one slate, perhaps together with others of the same bundle and outputs.

        Arguments and result are those of `Bundle.run_ranker`, of one user.
        """
        loop = asyncio.get_running_loop()
        slate = _Slate(inputs, loop.create_future())
        # A bundle with a waiting slate is alive, so that no other has its id.
        _, slates = self._waiting.setdefault((id(bundle), tuple(outputs)), (bundle, []))
        slates.append(slate)
        if not self._busy:
            if _cost(slates) >= self._max_candidates:
                self._begin()
            elif self._timer is None:
                self._timer = loop.call_later(self._delay_s, self._begin)
        return await slate.answer

    def close(self) -> None:
        """End the thread after its current run."""
        if self._timer is not None:
            self._timer.cancel()
        self._device.shutdown()

    def _begin(self) -> None:
        """Run as many of the longest waiting slates as fit; the next follow when they are done."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._busy or not self._waiting:
            return
        key = next(iter(self._waiting))
        bundle, slates = self._waiting.pop(key)
        count = _count_fitting(slates, self._max_candidates)
        if left := slates[count:]:
            self._waiting[key] = bundle, left  # behind the others
        batch = [slate for slate in slates[:count] if not slate.answer.done()]
        self._busy = bool(batch)
        if not batch:
            self._begin()
            return
        loop = asyncio.get_running_loop()
        run = loop.run_in_executor(self._device, rank_together, bundle, [s.inputs for s in batch], key[1])
        run.add_done_callback(lambda run: self._end(batch, run))

    def _end(self, slates: Sequence[_Slate], run: asyncio.Future[list[dict[str, Array]]]) -> None:
        self._busy = False
        error = run.exception()
        for index, slate in enumerate(slates):
            if slate.answer.done():
                continue  # its request was cancelled
            if error is not None:
                slate.answer.set_exception(error)
            else:
                slate.answer.set_result(run.result()[index])
        self._begin()


def rank_together(
    bundle: Bundle, slates: Sequence[Mapping[str, Array]], outputs: Sequence[str]
) -> list[dict[str, Array]]:
    """Run the ranker once for several slates, padded to a bucket.

    Returns:
        The outputs of each slate, as `Bundle.run_ranker` gives them for it alone.
    """
    users = bucket(len(slates), USERS)
    candidates = bucket(max(s["candidate_ids"].shape[1] for s in slates), CANDIDATES)
    steps = bundle.manifest.sequence_length
    inputs: dict[str, Array] = {}
    for name, first in slates[0].items():
        shape = (users, *_padded(name, first.shape[1:], steps, candidates))
        batch = np.full(shape, _PADDING.get(name, PADDING), first.dtype)
        for row, slate in enumerate(slates):
            own = slate[name][0]
            if name.startswith(_PADDED_IN_FRONT):
                batch[row, shape[1] - len(own) :] = own
            else:
                batch[row, : len(own)] = own
        inputs[name] = batch
    answers = bundle.run_ranker(inputs, outputs)
    return [
        {name: x[row : row + 1, : slate["candidate_ids"].shape[1]] for name, x in answers.items()}
        for row, slate in enumerate(slates)
    ]


def bucket(size: int, buckets: Sequence[int]) -> int:
    """Return the smallest bucket that holds `size`; the size itself if none does."""
    return next((b for b in buckets if b >= size), size)


def _padded(name: str, shape: tuple[int, ...], steps: int, candidates: int) -> tuple[int, ...]:
    if name.startswith(_PADDED_IN_FRONT):
        return (HISTORY_LENGTH if name.startswith("history_") else steps, *shape[1:])
    return (candidates, *shape[1:]) if name.startswith("candidate_") else shape


def _cost(slates: Sequence[_Slate]) -> int:
    """Candidates of a run of these, padding included."""
    return bucket(len(slates), USERS) * bucket(max(s.candidates for s in slates), CANDIDATES)


def _count_fitting(slates: Sequence[_Slate], max_candidates: int) -> int:
    """How many of these, from the first, fit into one run."""
    count = 1
    while count < min(len(slates), USERS[-1]) and _cost(slates[: count + 1]) <= max_candidates:
        count += 1
    return count
