"""The clients' streams: both ways at once, from any source, and an error when they are cut."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import pytest

from models.errors import StoreUnavailable
from models.schema import FeedbackEvent
from service.client import AsyncClient, Busy, Client, StreamCut
from service.state import Outcome
from service.wire import Label, Rejected, StreamSummary
from tests.service.client.answering import Answer, answering
from tests.service.client.exposures import exposure
from tests.service.memory_store import MemoryStore
from tests.service.running import Service, served


def test_each_event_has_its_answer_in_order_and_the_last_is_the_summary(service: Service, user: str) -> None:
    good = [exposure(f"{user}-{i}", user) for i in range(1200)]
    pretty = b'{\n "event_id": "x",\r\n "user_id": 1}'
    with Client(service.url) as api:
        answers = list(api.label_stream([*good[:700], pretty, *good[700:]], labels=["pcr"]))
    assert [a.event_id for a in answers if isinstance(a, Label)] == [e.event_id for e in good]
    assert [a.index for a in answers if isinstance(a, Rejected)] == [700]
    summary = answers[-1]
    assert isinstance(summary, StreamSummary)
    assert (summary.accepted, summary.rejected) == (1200, 1)


def test_an_answer_comes_while_the_source_still_waits(service: Service, user: str) -> None:
    """The source blocks until its last event was answered: sending all before reading would never end."""
    for_more = threading.Semaphore(1)

    def source() -> Iterator[FeedbackEvent]:
        for i in range(5):
            assert for_more.acquire(timeout=20)
            yield exposure(f"{user}-{i}", user)

    with Client(service.url) as api:
        for answer in api.label_stream(source()):
            if isinstance(answer, Label):
                for_more.release()
    assert isinstance(answer, StreamSummary)
    assert answer.accepted == 5


def test_the_awaited_stream_takes_either_kind_of_source(service: Service, user: str) -> None:
    async def main() -> None:
        answered = asyncio.Semaphore(1)

        async def source() -> AsyncIterator[FeedbackEvent]:
            for i in range(5):
                await asyncio.wait_for(answered.acquire(), 20)
                yield exposure(f"{user}-{i}", user)

        async with AsyncClient(service.url) as api:
            seen = []
            async for answer in api.label_stream(source()):
                seen.append(answer)
                answered.release()
            assert len(seen) == 6
            again = [a async for a in api.label_stream([exposure(f"{user}-{i}", user) for i in range(5)])]
            assert [a.duplicate for a in again if isinstance(a, Label)] == [True] * 5

    asyncio.run(main())


def test_an_endless_source_can_be_broken_off(service: Service, user: str) -> None:
    taken = itertools.count()

    def endless() -> Iterator[FeedbackEvent]:
        while True:
            yield exposure(f"{user}-{next(taken)}", user)

    async def main() -> None:
        async with (
            AsyncClient(service.url) as api,
            aclosing(api.label_stream(endless(), store=False)) as some,
        ):
            assert isinstance(await anext(some), Label)

    asyncio.run(main())
    with Client(service.url) as api, closing(api.label_stream(endless(), store=False)) as answers:
        assert isinstance(next(answers), Label)


def test_a_source_that_fails_is_the_callers_own_error(service: Service, user: str) -> None:
    def breaks() -> Iterator[FeedbackEvent]:
        yield exposure(f"{user}-1", user)
        raise ZeroDivisionError("in the source")

    with Client(service.url) as api, pytest.raises(ZeroDivisionError, match="in the source"):
        list(api.label_stream(breaks()))


def exhaust(answers: Iterator[Any], more: threading.Semaphore) -> None:
    for _ in answers:
        more.release()


class AwayLater(MemoryStore):
    """Takes so many batches, then is gone."""

    def __init__(self, batches: int) -> None:
        super().__init__()
        self.batches = batches

    async def record(self, user_id: str, events: Any) -> list[Outcome]:
        if not self.batches:
            raise StoreUnavailable("The store is away.")
        self.batches -= 1
        return await super().record(user_id, events)


def test_a_stream_that_is_cut_says_how_much_was_answered(bundles: Path, tmp_path: Path) -> None:
    more = threading.Semaphore(1)

    def source() -> Iterator[FeedbackEvent]:
        for i in range(5):
            assert more.acquire(timeout=20)
            yield exposure(f"e{i}", "alice")

    with served(bundles, AwayLater(2), tmp_path) as http, Client(str(http.base_url)) as api:
        answers = api.label_stream(source())
        with pytest.raises(StreamCut, match="store cannot") as caught:
            exhaust(answers, more)
        assert caught.value.answered == 2
        assert caught.value.problem is not None
        assert len(api.sequence("alice").events) == 2
        with pytest.raises(Busy):
            list(api.label_stream([exposure("e9", "alice")]))


def test_an_answer_that_stops_in_the_middle_is_cut_not_complete() -> None:
    half = Answer(200, b'{"event_id":"e1","user_id":"u","video_id":"v","label":0.5,"labels":{}}\n')
    with answering(half) as server, Client(server.url) as api:
        with pytest.raises(StreamCut, match="without its summary") as caught:
            list(api.label_stream([]))
        assert caught.value.answered == 1
