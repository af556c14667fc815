"""The client that blocks."""

from __future__ import annotations

import ssl
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeVar

import httpx2
from anyio.from_thread import start_blocking_portal

from models.schema import Candidate, Profile, Video
from service import wire
from service.client import _calls as calls
from service.client._calls import Call, Event
from service.client._connection import Connection
from service.client._errors import Busy, Refused, Unreachable
from service.client._retries import Retries
from service.client._stream import Answer, exchange, from_thread

T = TypeVar("T")


class Client:
    """The service's surface as methods. May be shared by threads; close it, or use it as a context manager.

    Args:
        url: of the service, e.g. `http://127.0.0.1:8000`.
        key: an API key.
        timeout_s: for one try of a call without a deadline.
        deadline_ms: for a call with all its tries; `None` is no limit. The service is told what is left
            (`X-Deadline-Ms`), so that it does not work for nobody.
        retries: how often to try.
        tls: what to trust, for `https`; by default what this machine does.

    Every method raises:
        Refused: what was sent is wrong, or the key may not send it.
        Busy: the service is overloaded, away or shutting down, and tries, time or budget are used up.
        Unreachable: no answer came, likewise.
        Faulty: something is broken over there.
    """

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
        self._http = httpx2.Client(base_url=self._to.url, headers=self._to.headers, verify=self._to.verify)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    def label(
        self,
        events: Iterable[Event],
        *,
        labels: Sequence[str] = (),
        store: bool = True,
        deadline_ms: float | None = None,
    ) -> wire.LabelReply:
        """Label events and add them to their users' sequences. `labels`: by default the bundle's first.

        Raises:
            Refused: also if no event went through; `problem.rejected` says why, event by event.
        """
        return self._send(calls.label(events, labels, store), deadline_ms)

    def label_all(
        self, events: Iterable[Event], *, batch: int = 500, labels: Sequence[str] = (), store: bool = True
    ) -> Iterator[wire.LabelReply]:
        """Label any number of events, `batch` a request; one reply a batch, when it is there.

        `rejected[].index` counts through all events. A batch of which nothing went through is a reply too.
        """
        for first, part in calls.batches(events, batch):
            try:
                reply = self.label(part, labels=labels, store=store)
            except Refused as e:
                reply = calls.all_rejected(e)
            yield calls.placed(reply, first)

    def label_stream(
        self, events: Iterable[Event], *, labels: Sequence[str] = (), store: bool = True
    ) -> Generator[Answer, None, None]:
        """Label an endless stream on one connection: answers come back while events go out.

        `events` is read in a thread of its own and may block. Close the generator to break off.

        Raises:
            StreamCut: it ended early. It is not sent again by itself: what was answered is known to you.
        """
        with start_blocking_portal() as portal:
            answers = portal.call(exchange, self._to.stream(labels, store), portal.call(from_thread, events))
            try:
                while True:
                    yield from portal.call(answers.__anext__)
            except StopAsyncIteration:
                return
            finally:
                portal.call(answers.aclose)

    def rerank(
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
        return self._send(calls.rerank(user_id, candidates, explain, more), deadline_ms)

    def put_videos(self, videos: Sequence[Video]) -> wire.Stored:
        """Upsert catalogue entries, all or nothing."""
        return self._send(calls.put_videos(videos))

    def put_users(self, profiles: Mapping[str, Profile]) -> wire.Stored:
        """Replace profiles, by user."""
        return self._send(calls.put_users(profiles))

    def sequence(self, user_id: str) -> wire.Sequence:
        """What the service holds on a user; `Refused` with status 404 for one it does not know."""
        return self._send(calls.sequence(user_id))

    def forget(self, user_id: str) -> wire.Forgotten:
        """Remove a user. After a repeated try `known` may be false although the first one found something."""
        return self._send(calls.forget(user_id))

    def models(self) -> wire.Models:
        """Which versions there are and which answers."""
        return self._send(calls.models())

    def activate(self, version: str) -> wire.Active:
        """Answer from this version from now on."""
        return self._send(calls.activate(version))

    def split(self, version: str, share: float) -> wire.Traffic:
        """Let this version answer a share of the users, 0 to 1; 0 ends it."""
        return self._send(calls.trial(version, "split", share))

    def shadow(self, version: str, share: float) -> wire.Traffic:
        """Let this version score a share of the requests unseen, 0 to 1; 0 ends it."""
        return self._send(calls.trial(version, "shadow", share))

    def rollback(self) -> wire.Active:
        """Go back to the version of before. Never sent twice: that would be two steps back."""
        return self._send(calls.rollback())

    def ready(self) -> wire.Health:
        """Ready to be asked; `Busy` if not, `degraded` if the store is away."""
        return self._send(calls.health("ready"))

    def health(self) -> wire.Health:
        """The process answers."""
        return self._send(calls.health("live"))

    def _send(self, call: Call[T], deadline_ms: float | None = None) -> T:
        attempts = self._to.attempts(call, deadline_ms)
        while True:
            try:
                return self._once(call, attempts.left_s())
            except (Busy, Unreachable) as e:
                if (pause_s := attempts.pause_s(e)) is None:
                    raise
            time.sleep(pause_s)

    def _once(self, call: Call[T], left_s: float | None) -> T:
        try:
            reply = self._http.request(**self._to.arguments(call, left_s))
        except (httpx2.HTTPError, httpx2.InvalidURL) as e:
            raise self._to.unreachable(e) from e
        return self._to.read(call, reply)
