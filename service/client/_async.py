"""The client that is awaited."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

import httpx2

from models.schema import Candidate, Profile, Video
from service import wire
from service.client import _calls as calls
from service.client._calls import Call, Event
from service.client._connection import Connection
from service.client._errors import Busy, Refused, Unreachable
from service.client._retries import Retries
from service.client._stream import Answer, exchange

T = TypeVar("T")


class AsyncClient:
    """`Client`, to be awaited; the same arguments, methods and errors, see there. For one event loop."""

    def __init__(
        self,
        url: str,
        *,
        key: str = "",
        timeout_s: float = 10.0,
        deadline_ms: float | None = None,
        retries: Retries | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._to = Connection(url, key, timeout_s, deadline_ms, retries or Retries(), tls)
        self._http = httpx2.AsyncClient(
            base_url=self._to.url, headers=self._to.headers, verify=self._to.verify
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of connections."""
        await self._http.aclose()

    async def label(
        self,
        events: Iterable[Event],
        *,
        labels: Sequence[str] = (),
        store: bool = True,
        deadline_ms: float | None = None,
    ) -> wire.LabelReply:
        """Label events and add them to their users' sequences."""
        return await self._send(calls.label(events, labels, store), deadline_ms)

    async def label_all(
        self, events: Iterable[Event], *, batch: int = 500, labels: Sequence[str] = (), store: bool = True
    ) -> AsyncIterator[wire.LabelReply]:
        """Label any number of events, `batch` a request; one reply a batch."""
        for first, part in calls.batches(events, batch):
            try:
                reply = await self.label(part, labels=labels, store=store)
            except Refused as e:
                reply = calls.all_rejected(e)
            yield calls.placed(reply, first)

    async def label_stream(
        self,
        events: AsyncIterable[Event] | Iterable[Event],
        *,
        labels: Sequence[str] = (),
        store: bool = True,
    ) -> AsyncGenerator[Answer, None]:
        """Label an endless stream on one connection. Use `contextlib.aclosing` if you may break off."""
        async with contextlib.aclosing(exchange(self._to.stream(labels, store), events)) as parts:
            async for answers in parts:
                for answer in answers:
                    yield answer

    async def rerank(
        self,
        user_id: str,
        candidates: Sequence[Candidate],
        *,
        request_id: str | None = None,
        timestamp_ms: int | None = None,
        top_k: int | None = None,
        weights: Mapping[str, float] | None = None,
        objectives: Sequence[str] | None = None,
        tab: str | None = None,
        explain: bool = False,
        deadline_ms: float | None = None,
    ) -> wire.RerankReply:
        """Order candidates for one user."""
        more = {
            "request_id": request_id,
            "timestamp_ms": timestamp_ms,
            "top_k": top_k,
            "weights": weights,
            "objectives": objectives,
            "tab": tab,
        }
        return await self._send(calls.rerank(user_id, candidates, explain, more), deadline_ms)

    async def put_videos(self, videos: Sequence[Video]) -> wire.Stored:
        """Upsert catalogue entries, all or nothing."""
        return await self._send(calls.put_videos(videos))

    async def put_users(self, profiles: Mapping[str, Profile]) -> wire.Stored:
        """Replace profiles, by user."""
        return await self._send(calls.put_users(profiles))

    async def sequence(self, user_id: str) -> wire.Sequence:
        """What the service holds on a user; `Refused` with status 404 for one it does not know."""
        return await self._send(calls.sequence(user_id))

    async def forget(self, user_id: str) -> wire.Forgotten:
        """Remove a user. After a repeated try `known` may be false although the first one found something."""
        return await self._send(calls.forget(user_id))

    async def models(self) -> wire.Models:
        """Which versions there are and which answers."""
        return await self._send(calls.models())

    async def activate(self, version: str) -> wire.Active:
        """Answer from this version from now on."""
        return await self._send(calls.activate(version))

    async def split(self, version: str, share: float) -> wire.Traffic:
        """Let this version answer a share of the users, 0 to 1; 0 ends it."""
        return await self._send(calls.trial(version, "split", share))

    async def shadow(self, version: str, share: float) -> wire.Traffic:
        """Let this version score a share of the requests unseen, 0 to 1; 0 ends it."""
        return await self._send(calls.trial(version, "shadow", share))

    async def rollback(self) -> wire.Active:
        """Go back to the version of before. Never sent twice: that would be two steps back."""
        return await self._send(calls.rollback())

    async def ready(self) -> wire.Health:
        """Ready to be asked; `Busy` if not, `degraded` if the store is away."""
        return await self._send(calls.health("ready"))

    async def health(self) -> wire.Health:
        """The process answers."""
        return await self._send(calls.health("live"))

    async def _send(self, call: Call[T], deadline_ms: float | None = None) -> T:
        attempts = self._to.attempts(call, deadline_ms)
        while True:
            try:
                return await self._once(call, attempts.left_s())
            except (Busy, Unreachable) as e:
                if (pause_s := attempts.pause_s(e)) is None:
                    raise
            await asyncio.sleep(pause_s)

    async def _once(self, call: Call[T], left_s: float | None) -> T:
        try:
            reply = await self._http.request(**self._to.arguments(call, left_s))
        except (httpx2.HTTPError, httpx2.InvalidURL) as e:
            raise self._to.unreachable(e) from e
        return self._to.read(call, reply)
