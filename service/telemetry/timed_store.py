"""A store whose calls are timed."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import cache
from time import perf_counter
from typing import TypeVar

from prometheus_client import Histogram

from models.schema import FeedbackEvent, Profile, Video
from service.state.protocol import History, Outcome, Store, UserState

T = TypeVar("T")


class TimedStore:
    """A `Store` that passes every call on.

    Args:
        store: the inner store. What a circuit breaker in front of this refuses is not timed: it took no time.
        seconds: histogram with the label `operation`, the name of the method.
    """

    def __init__(self, store: Store, seconds: Histogram) -> None:
        self._store = store
        self._seconds = cache(seconds.labels)

    async def record(self, user_id: str, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        return await self._timed("record", self._store.record(user_id, events))

    async def record_many(self, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        return await self._timed("record", self._store.record_many(events))

    async def read(self, user_id: str) -> UserState | None:
        return await self._timed("read", self._store.read(user_id))

    async def history(self, user_id: str) -> History | None:
        return await self._timed("history", self._store.history(user_id))

    async def put_profile(self, user_id: str, profile: Profile) -> None:
        await self._timed("put_profile", self._store.put_profile(user_id, profile))

    async def forget(self, user_id: str) -> bool:
        return await self._timed("forget", self._store.forget(user_id))

    async def put_videos(self, videos: Sequence[Video]) -> None:
        await self._timed("put_videos", self._store.put_videos(videos))

    async def videos_since(self, cursor: str) -> tuple[str, list[Video]]:
        return await self._timed("videos_since", self._store.videos_since(cursor))

    async def ping(self) -> None:
        await self._timed("ping", self._store.ping())

    async def close(self) -> None:
        await self._store.close()

    async def _timed(self, operation: str, call: Awaitable[T]) -> T:
        """Calls that fail or are cancelled took their time too."""
        started = perf_counter()
        try:
            return await call
        finally:
            self._seconds(operation).observe(perf_counter() - started)
