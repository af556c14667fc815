"""The store behind circuit breakers: when it is away, calls fail at once instead of waiting one by one.

Calls that reach it are timed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Final, Literal, ParamSpec, TypeVar

from models.errors import StoreUnavailable
from models.schema import FeedbackEvent, HistoryEntry, Profile, Video
from service.state.breaker import Breaker, Circuit, State
from service.state.protocol import History, Outcome, Store, UserState

P = ParamSpec("P")
R = TypeVar("R")

Calls = Literal["reads", "writes"]

MAX_WRITES: Final = 48
"""At a time, of the store's 64 connections. The rest is kept for reads: writes that hang must not cost slates
their sequences."""

SMALL_BATCH: Final = 10
MAX_LARGE_BATCHES: Final = 8
"""Writes at a time of more than `SMALL_BATCH` events. Each keeps the server busy for milliseconds: a call
behind more of them would wait past its time-out, and a busy store would be taken for one that is away. They
wait here, where no time-out runs."""

REMEMBERED_S: Final = 60.0
"""A write that failed longer ago says nothing about the next one."""

UNANSWERED: Final = frozenset({"connection", "timeout", "loading"})
"""Reasons that mean the store is away. One that is full or read-only answers, and must go on being read."""


class GuardedStore:
    """Implements `Store` on another one, with a circuit for reads and one for writes: a server that is too
    slow to be read in time may still keep what it is given.

    Args:
        store: asked while the circuits are closed; closed with this one.
        failed: called with each failure's kind of call and `StoreUnavailable.reason`.
        changed: called with every new state of a circuit.
        timed: called with the operation and the seconds of each call that was let through, failed ones too.
        check_disk: called before each write; raises `StoreUnavailable` where that would be lost.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        store: Store,
        *,
        failed: Callable[[Calls, str], None] = lambda calls, reason: None,
        changed: Callable[[Calls, State], None] = lambda calls, state: None,
        timed: Callable[[str, float], None] = lambda operation, seconds: None,
        check_disk: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._timed = timed
        self._check_disk = check_disk
        self._clock = clock
        self._write_failed_s: float | None = None

        def circuit(calls: Calls) -> Circuit:
            def answered(error: Exception) -> bool | None:
                if not isinstance(error, StoreUnavailable):
                    return None
                failed(calls, error.reason)
                if calls == "writes" and error.reason != "unreadable":  # which is of one user only
                    self._write_failed_s = clock()
                return error.reason not in UNANSWERED

            return Circuit(
                Breaker(clock=clock, changed=lambda state: changed(calls, state)),
                answered=answered,
                given_up=lambda: failed(calls, "given_up"),
                clock=clock,
            )

        self._reads, self._writes = circuit("reads"), circuit("writes")
        self._write_permits = asyncio.Semaphore(MAX_WRITES)
        self._large_batches = asyncio.Semaphore(MAX_LARGE_BATCHES)

    async def record(self, user_id: str, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        async with self._write_permits:
            return await self._call(self._writes, "record", self._store.record, user_id, events)

    async def record_many(self, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        async with self._large_batches if len(events) > SMALL_BATCH else nullcontext(), self._write_permits:
            return await self._call(self._writes, "record", self._store.record_many, events)

    async def read(self, user_id: str) -> UserState | None:
        return await self._call(self._reads, "read", self._store.read, user_id)

    async def history(self, user_id: str) -> History | None:
        return await self._call(self._reads, "history", self._store.history, user_id)

    async def put_profile(self, user_id: str, profile: Profile) -> None:
        async with self._write_permits:
            await self._call(self._writes, "put_profile", self._store.put_profile, user_id, profile)

    async def put_history(self, user_id: str, entries: Sequence[HistoryEntry]) -> None:
        async with self._write_permits:
            await self._call(self._writes, "put_history", self._store.put_history, user_id, entries)

    async def forget(self, user_id: str) -> bool:
        async with self._write_permits:
            return await self._call(self._writes, "forget", self._store.forget, user_id)

    async def put_videos(self, videos: Sequence[Video]) -> None:
        async with self._write_permits:
            await self._call(self._writes, "put_videos", self._store.put_videos, videos)

    async def videos_since(self, cursor: str) -> tuple[str, list[Video]]:
        return await self._call(self._reads, "videos_since", self._store.videos_since, cursor)

    async def risks(self) -> Mapping[str, str]:
        return await self._call(None, "risks", self._store.risks)

    def writes_fail(self) -> bool:
        """Return whether a write would be lost, or the last one has failed within `REMEMBERED_S`."""
        try:
            self._check_disk()
        except StoreUnavailable:
            return True
        failed_s = self._write_failed_s
        return failed_s is not None and self._clock() - failed_s < REMEMBERED_S

    async def ping(self) -> None:
        """Past the circuits: readiness asks for the truth, not for what was learned."""
        await self._call(None, "ping", self._store.ping)

    async def close(self) -> None:
        await self._store.close()

    async def _call(
        self,
        circuit: Circuit | None,
        operation: str,
        call: Callable[P, Awaitable[R]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        with nullcontext() if circuit is None else circuit.call():
            if circuit is self._writes:
                self._check_disk()
            started = time.perf_counter()
            try:
                answer = await call(*args, **kwargs)
            finally:
                self._timed(operation, time.perf_counter() - started)
            if circuit is self._writes:
                self._write_failed_s = None
            return answer
