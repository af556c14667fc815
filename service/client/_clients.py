"""The blocking and the async client: connections, retries, batches and streams."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Generator,
    Iterable,
    Iterator,
    Sequence,
)
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import httpx2
import msgspec
from anyio.from_thread import start_blocking_portal

from models.errors import BadInput
from service import wire
from service.client._errors import Busy, Refused, Unreachable, error_of
from service.client._methods import Call, Event, Methods, label_path
from service.client._retries import Attempts, Budget, Retries
from service.client._stream import Answer, Stream, exchange, from_thread

T = TypeVar("T")

NOT_SENT: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
)


class Connection(Methods):
    """What both clients share: the address of the service, and time limits and retries of every call."""

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
        """Make a client; it connects with the first call.

        Args:
            url: of the service, e.g. `http://127.0.0.1:8000`.
            key: API key.
            timeout_s: of one try of a call without a deadline, s.
            deadline_ms: of a call with all its tries, ms; `None` is no limit. The service receives what is
                left of it (`X-Deadline-Ms`), so that it does not work for a caller that has given up.
            retries: how often to try.
            tls: trust settings for `https`; by default those of this machine.

        Raises:
            BadInput: the URL is not of `http://` or `https://`.
        """
        try:
            parts = httpx2.URL(url)
        except httpx2.InvalidURL as e:
            raise BadInput(f"{url!r} is not a URL: {e}. Write e.g. http://127.0.0.1:8000.") from None
        if parts.scheme not in ("http", "https") or not parts.host:
            raise BadInput(f"{url!r} is not the URL of a service. Write e.g. http://127.0.0.1:8000.")
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {key}"} if key else {}
        self._tls = tls
        self._timeout_s = timeout_s
        self._deadline_ms = deadline_ms
        self._retries = retries or Retries()
        self._budget = Budget(self._retries)
        self._open(base_url=self._url, headers=self._headers, verify=True if tls is None else tls)

    def _open(self, **options: Any) -> None:
        """Make the HTTP client."""

    def _attempts(self, call: Call[T]) -> Attempts:
        deadline_ms = self._deadline_ms if call.deadline_ms is None else call.deadline_ms
        deadline_s = None if deadline_ms is None else deadline_ms / 1e3
        return Attempts(self._retries, self._budget, idempotent=call.idempotent, deadline_s=deadline_s)

    def _request(self, call: Call[T], left_s: float | None) -> dict[str, Any]:
        """Return the arguments of the HTTP client for one try."""
        headers = {"content-type": "application/json"} if call.body else {}
        if left_s is not None:
            headers["x-deadline-ms"] = f"{left_s * 1e3:.0f}"
        return {
            "method": call.method,
            "url": call.path,
            "content": call.body or None,
            "headers": headers,
            "timeout": self._timeout_s if left_s is None else left_s,
        }

    def _unreachable(self, error: Exception) -> Unreachable:
        reason = str(error) or type(error).__name__
        sent = not isinstance(error, NOT_SENT)
        return Unreachable(f"No service answers at {self._url}: {reason}.", sent=sent)

    def _stream(self, labels: Sequence[str], store: bool) -> Stream:
        headers = {**self._headers, "content-type": "application/x-ndjson"}
        return Stream(self._url, label_path(labels, store), headers, self._timeout_s, self._tls)


class Client(Connection):
    """The endpoints as methods that block. Threads may share a client; close it, or use `with`.

    Every method raises:
        Refused: the request is wrong, or the key may not send it.
        Busy: the service is overloaded, unavailable or shutting down, and tries, time or budget are used up.
        Unreachable: no reply came, likewise.
        Faulty: the service has a fault.
    """

    def _open(self, **options: Any) -> None:
        self._http = httpx2.Client(**options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def label_all(
        self, events: Iterable[Event], *, batch: int = 500, labels: Sequence[str] = (), store: bool = True
    ) -> Iterator[wire.LabelReply]:
        """Label any number of events, `batch` a request; yield each batch's reply as it arrives.

        `rejected[].index` counts through all events. A batch without an accepted event has a reply too.
        """
        for first, part in _batches(events, batch):
            try:
                reply = self.label(part, labels=labels, store=store)
            except Refused as e:
                reply = _all_rejected(e)
            yield _shift_rejected(reply, first)

    def label_stream(
        self, events: Iterable[Event], *, labels: Sequence[str] = (), store: bool = True
    ) -> Generator[Answer, None, None]:
        """Label an endless stream on one connection: answers arrive while events are sent.

        `events` is read in a thread and may block. Close the generator to end the stream early.

        Raises:
            StreamCut: it ended early. It is not retried: the caller knows which events were answered.
        """
        with start_blocking_portal() as portal:
            answers = portal.call(exchange, self._stream(labels, store), portal.call(from_thread, events))
            try:
                while True:
                    yield from portal.call(answers.__anext__)
            except StopAsyncIteration:
                return
            finally:
                portal.call(answers.aclose)

    def _send(self, call: Call[T]) -> T:
        attempts = self._attempts(call)
        while True:
            try:
                return self._try(call, attempts.left_s())
            except (Busy, Unreachable) as e:
                if (pause_s := attempts.pause_s(e)) is None:
                    raise
            time.sleep(pause_s)

    def _try(self, call: Call[T], left_s: float | None) -> T:
        try:
            reply = self._http.request(**self._request(call, left_s))
        except (httpx2.HTTPError, httpx2.InvalidURL) as e:
            raise self._unreachable(e) from e
        return _decode(call, reply)


class AsyncClient(Connection):
    """The endpoints as methods to await, with the arguments and errors of `Client`. For one event loop."""

    def _open(self, **options: Any) -> None:
        self._http = httpx2.AsyncClient(**options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def label_all(
        self, events: Iterable[Event], *, batch: int = 500, labels: Sequence[str] = (), store: bool = True
    ) -> AsyncIterator[wire.LabelReply]:
        """Label any number of events, `batch` a request; yield each batch's reply, as `Client.label_all`."""
        for first, part in _batches(events, batch):
            try:
                reply = await self.label(part, labels=labels, store=store)
            except Refused as e:
                reply = _all_rejected(e)
            yield _shift_rejected(reply, first)

    async def label_stream(
        self,
        events: AsyncIterable[Event] | Iterable[Event],
        *,
        labels: Sequence[str] = (),
        store: bool = True,
    ) -> AsyncGenerator[Answer, None]:
        """Label an endless stream on one connection. Use `contextlib.aclosing` to end it early."""
        async with contextlib.aclosing(exchange(self._stream(labels, store), events)) as batches:
            async for answers in batches:
                for answer in answers:
                    yield answer

    async def _send(self, call: Call[T]) -> T:
        attempts = self._attempts(call)
        while True:
            try:
                return await self._try(call, attempts.left_s())
            except (Busy, Unreachable) as e:
                if (pause_s := attempts.pause_s(e)) is None:
                    raise
            await asyncio.sleep(pause_s)

    async def _try(self, call: Call[T], left_s: float | None) -> T:
        try:
            reply = await self._http.request(**self._request(call, left_s))
        except (httpx2.HTTPError, httpx2.InvalidURL) as e:
            raise self._unreachable(e) from e
        return _decode(call, reply)


def _decode(call: Call[T], reply: httpx2.Response) -> T:
    if reply.status_code != 200:
        raise error_of(reply.status_code, reply.headers, reply.content)
    return call.decode(reply.content)


def _batches(events: Iterable[Event], size: int) -> Iterator[tuple[int, list[Event]]]:
    """Yield parts of at most `size` events, each with the position of its first."""
    first, source = 0, iter(events)
    while batch := list(itertools.islice(source, size)):
        yield first, batch
        first += len(batch)


def _shift_rejected(reply: wire.LabelReply, first: int) -> wire.LabelReply:
    """Return the reply to a batch with rejections at their positions among all events."""
    if not reply.rejected or not first:
        return reply
    rejected = [msgspec.structs.replace(r, index=r.index + first) for r in reply.rejected]
    return msgspec.structs.replace(reply, rejected=rejected)


def _all_rejected(error: Refused) -> wire.LabelReply:
    """Return the reply to a batch without an accepted event.

    Raises:
        Refused: the error itself, if it is about the request and not about its events.
    """
    if not error.problem.rejected:
        raise error
    return wire.LabelReply(
        status="ok",
        accepted=0,
        duplicates=0,
        merged=0,
        rejected=error.problem.rejected,
        labels=[],
        model_version="",
        took_ms=0.0,
    )
