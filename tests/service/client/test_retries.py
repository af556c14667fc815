"""When a request is sent again, and when it is not."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import StoreUnavailable
from service.client import AsyncClient, Busy, Client, Faulty, Refused, Retries, Unreachable
from service.client._retries import Attempts, Budget
from tests.service.client.answering import Answer, answering
from tests.service.client.exposures import exposure
from tests.service.memory_store import MemoryStore
from tests.service.running import served
from tests.service.stores import run

QUICK = Retries(first_pause_s=0.001)
HEALTH = Answer(body=b'{"status": "live"}')
BROKEN = Answer(0)


def refusal(status: int, **headers: str) -> Answer:
    problem = {"type": "about:blank", "title": "t", "status": status, "detail": "not now"}
    return Answer(status, json.dumps(problem).encode(), {k.replace("_", "-"): v for k, v in headers.items()})


class AwayFor(MemoryStore):
    """Fails so many times, then works."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    async def record(self, user_id, events):  # type: ignore[no-untyped-def]  # as in the protocol
        if self.times:
            self.times -= 1
            raise StoreUnavailable("The store is away.")
        return await super().record(user_id, events)


def test_the_service_recovers_and_the_caller_notices_nothing(bundles: Path, tmp_path: Path) -> None:
    """The real service: 503 with Retry-After twice, then the label, of an event that is stored once."""
    with served(bundles, AwayFor(2), tmp_path) as http, Client(str(http.base_url), retries=QUICK) as api:
        began = time.monotonic()
        assert api.label([exposure("e1", "alice")]).accepted == 1
        assert time.monotonic() - began >= 2.0  # twice the second that was asked for
        assert len(api.sequence("alice").events) == 1


def test_a_refusal_with_retry_after_is_waited_for() -> None:
    with answering(refusal(429, retry_after="0.3"), HEALTH) as server, Client(server.url) as api:
        began = time.monotonic()
        assert api.health().status == "live"
        assert time.monotonic() - began >= 0.3
        assert len(server.requests) == 2


def test_who_asks_for_too_long_a_wait_is_told_to_the_caller() -> None:
    with answering(refusal(503, retry_after="3600"), HEALTH) as server, Client(server.url) as api:
        with pytest.raises(Busy, match="not now") as caught:
            api.health()
        assert (caught.value.retry_after_s, len(server.requests)) == (3600.0, 1)


def test_what_is_wrong_is_sent_once() -> None:
    for status, kind in ((400, Refused), (409, Refused), (422, Refused), (500, Faulty)):
        with answering(refusal(status)) as server, Client(server.url, retries=QUICK) as api:
            with pytest.raises(kind):
                api.health()
            assert len(server.requests) == 1


def test_a_broken_connection_is_tried_again_where_repeating_is_safe() -> None:
    active = Answer(body=b'{"model_version": "v", "provider": "cpu"}')
    with answering(BROKEN, active) as server, Client(server.url, retries=QUICK) as api:
        assert api.activate("v").model_version == "v"
        assert len(server.requests) == 2
    with answering(BROKEN, active) as server, Client(server.url, retries=QUICK) as api:
        with pytest.raises(Unreachable) as caught:
            api.rollback()
        assert (caught.value.sent, len(server.requests)) == (True, 1)
    with answering(refusal(503), active) as server, Client(server.url, retries=QUICK) as api:
        with pytest.raises(Busy):
            api.rollback()
        assert len(server.requests) == 1


def test_tries_end() -> None:
    with answering(refusal(503)) as server, Client(server.url, retries=QUICK) as api:
        with pytest.raises(Busy):
            api.health()
        assert len(server.requests) == QUICK.tries


def test_over_all_requests_a_tenth_are_retries_and_no_more() -> None:
    """A service that is down for good gets its requests, the reserve once, and 10 % on top."""
    retries = Retries(first_pause_s=0.0, reserve=5)
    with answering(refusal(503)) as server, Client(server.url, retries=retries) as api:
        for _ in range(50):
            with pytest.raises(Busy):
                api.health()
        assert 50 + 5 <= len(server.requests) <= 50 + 5 + 5


def test_the_awaited_client_shares_one_budget_too() -> None:
    async def main(url: str) -> None:
        async with AsyncClient(url, retries=Retries(first_pause_s=0.0, reserve=2)) as api:
            for _ in range(10):
                with pytest.raises(Busy):
                    await api.health()

    with answering(refusal(503)) as server:
        run(main(server.url))
        assert 12 <= len(server.requests) <= 13


def test_the_deadline_is_told_shrinks_and_ends_the_tries() -> None:
    with answering(refusal(503)) as server:
        retries = Retries(tries=100, first_pause_s=0.25, longest_pause_s=0.25, reserve=100)
        with Client(server.url, deadline_ms=1500.0, retries=retries) as api, pytest.raises(Busy):
            api.health()
        deadlines = [float(headers["x-deadline-ms"]) for _, _, headers in server.requests]
        assert 2 <= len(deadlines) <= 13
        assert deadlines[0] <= 1500
        assert deadlines == sorted(deadlines, reverse=True)
        assert deadlines[-1] < deadlines[0]


def test_an_answer_that_is_none_of_ours_is_said_to_be() -> None:
    page = Answer(502, b"<html>Bad gateway</html>")
    with answering(page, Answer(200, b"<html>hello</html>")) as server, Client(server.url) as api:
        with pytest.raises(Faulty, match="cannot be decoded"):
            api.health()
        server.answers.insert(0, page)
        with Client(server.url, retries=Retries(tries=1)) as once, pytest.raises(Busy, match="Bad gateway"):
            once.health()


@given(
    st.lists(st.sampled_from(["request", "retry"]), max_size=200),
    st.integers(0, 20),
    st.sampled_from([0.0, 0.1, 0.5]),
)
def test_a_budget_never_gives_more_than_it_earned(steps: list[str], reserve: int, rate: float) -> None:
    budget = Budget(Retries(budget=rate, reserve=reserve))
    requests = taken = 0
    for step in steps:
        if step == "request":
            budget.earn()
            requests += 1
        else:
            taken += budget.take()
    assert taken <= reserve + requests * rate + 1e-6


@given(st.integers(1, 8), st.floats(0.01, 1.0), st.one_of(st.none(), st.floats(0.0, 5.0)))
def test_pauses_grow_are_bounded_and_never_shorter_than_asked_for(
    tries: int, first_s: float, asked_s: float | None
) -> None:
    retries = Retries(tries=tries, first_pause_s=first_s, longest_pause_s=5.0, reserve=100)
    attempts = Attempts(retries, Budget(retries), idempotent=True, deadline_s=None)
    error = Unreachable("gone", sent=True)
    busy = Busy.__new__(Busy)
    busy.retry_after_s = asked_s
    pauses = []
    while (pause_s := attempts.pause_s(error if asked_s is None else busy)) is not None:
        pauses.append(pause_s)
    assert len(pauses) == tries - 1
    for n, pause_s in enumerate(pauses):
        own_s = pause_s - (asked_s or 0.0)
        assert min(first_s * 2**n * 0.5, 5.0) - 1e-9 <= own_s <= min(first_s * 2**n, 5.0) + 1e-9
