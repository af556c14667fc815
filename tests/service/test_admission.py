"""Admission by cost: the budget by itself against random histories, and over real HTTP."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import Overloaded
from models.schema import FeedbackEvent
from service.overload.admission import (
    FLOOR,
    LABEL_COST,
    LAG_FRACTION,
    MAX_RETRY_AFTER_S,
    SLATE_COST,
    SUSTAINED_LAG_FRACTION,
    Admission,
    Budget,
)
from service.overload.event_loop_lag import INTERVAL_S
from service.pipeline.rerank import STATE_SHARE
from service.settings import Settings
from service.state import Outcome, UserState
from tests.service.exchanges import Dialogue, line, metric
from tests.service.memory_store import MemoryStore
from tests.service.running import event, eventually, served

NDJSON = {"content-type": "application/x-ndjson"}
LIMIT = 10

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 2 * LIMIT)),
        st.tuples(st.just("wait"), st.integers(0, 2 * LIMIT)),
        st.tuples(st.just("give"), st.integers(0, 50)),
        st.tuples(st.just("cancel"), st.integers(0, 50)),
        st.tuples(st.just("cancel while it is given room"), st.integers(0, 50)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_any_history_keeps_to_the_limit_and_forgets_no_waiter(steps: Sequence[tuple[str, int]]) -> None:
    asyncio.run(apply_steps(steps))


async def apply_steps(steps: Sequence[tuple[str, int]]) -> None:
    budget = Budget(LIMIT, "things", "SETTING")
    permits: list[Any] = []
    waiting: list[tuple[int, asyncio.Task[Any]]] = []

    def give(number: int) -> None:
        permits.pop(number % len(permits)).__exit__(None, None, None)

    async def settle() -> None:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        while waiting and waiting[0][1].done():
            permits.append(waiting.pop(0)[1].result())
        assert not any(task.done() for _, task in waiting)  # first come, first served
        assert budget.used == sum(taken.cost for taken in permits)
        assert budget.used <= LIMIT or sum(taken.cost > 0 for taken in permits) == 1
        if waiting:  # no waiter where there is room
            assert budget.used
            assert budget.used + waiting[0][0] > LIMIT

    for kind, number in steps:
        if kind == "take":
            try:
                permits.append(budget.take(number))
            except Overloaded as e:
                assert waiting or (budget.used and budget.used + number > LIMIT)
                assert 0 < e.retry_after_s <= MAX_RETRY_AFTER_S  # noqa: PT017
        elif kind == "wait":
            waiting.append((number, asyncio.create_task(budget.wait(number))))
        elif kind == "give" and permits:
            give(number)
        elif waiting:
            if permits and kind != "cancel":
                give(number)
            _, task = waiting.pop(0 if kind != "cancel" else number % len(waiting))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await settle()
    while permits:
        give(0)
        await settle()
    assert not waiting
    assert budget.used == 0


def test_retry_after_is_what_is_in_flight_over_the_rate_it_gets_done_at() -> None:
    now = [0.0]
    budget = Budget(100, "things", "SETTING", clock=lambda: now[0])
    for _ in range(10):  # ten a second
        now[0] += 1.0
        with budget.take(10):
            pass
    with budget.take(80), pytest.raises(Overloaded) as refused:
        budget.take(40)
    assert refused.value.retry_after_s == pytest.approx((80 + 40) / 10)


def test_a_late_loop_takes_on_less_never_nothing_and_comes_back() -> None:
    budget = Budget(1000, "things", "SETTING")
    seen = []
    for late in [True] * 100 + [False] * 200:
        budget.adapt(late)
        seen.append(budget.allowed)
    assert seen[:100] == sorted(seen[:100], reverse=True)
    assert seen[99] == FLOOR * 1000
    assert seen[100:] == sorted(seen[100:])
    assert seen[-1] == 1000
    budget.adapt(late=True)
    with budget.take(850), pytest.raises(Overloaded, match="900 at a time now, 1000 at most"):
        budget.take(100)


def test_a_long_beat_counts_as_the_beats_that_it_has_swallowed() -> None:
    at_once, step_by_step = Budget(1000, "things", "SETTING"), Budget(1000, "things", "SETTING")
    at_once.adapt(late=True, ticks=5.0)
    for _ in range(5):
        step_by_step.adapt(late=True)
    assert at_once.allowed == pytest.approx(step_by_step.allowed)


def test_a_burst_changes_nothing_and_sustained_overload_is_cut_to_what_gets_done() -> None:
    """Lags that are harmless one by one, for longer than any burst, are of a loop that never rests."""
    deadline_s = 0.2
    lag_s = deadline_s * LAG_FRACTION / 2
    admission = Admission(Settings(deadline_ms=deadline_s * 1e3))
    beats = round(deadline_s * SUSTAINED_LAG_FRACTION / (INTERVAL_S + lag_s))
    for _ in range(20):  # bursts, with a moment of rest between them
        for _ in range(beats - 1):
            admission.adapt(lag_s)
        admission.adapt(0.0)
    assert admission.candidates.allowed == admission.candidates.limit
    for _ in range(beats + 30):
        admission.adapt(lag_s)
    assert admission.candidates.allowed == admission.candidates.limit * FLOOR
    assert admission.events.allowed == admission.events.limit  # labels may wait


def test_room_is_estimated_from_earlier_requests_before_one_is_read() -> None:
    budget = Budget(1000, "things", "SETTING")
    for _ in range(100):
        with budget.take(300):
            assert not budget.full
    with budget.take(300), budget.take(300), budget.take(300):
        assert budget.used < budget.allowed
        assert budget.full
        with budget.take(100):  # an estimate only: a small request is still taken once it was read
            pass
    for _ in range(100):
        with budget.take(100):
            pass
    with budget.take(300), budget.take(300), budget.take(250):
        assert not budget.full


def test_the_constants_are_those_that_the_readme_publishes() -> None:
    assert (SLATE_COST, LABEL_COST) == (100, 20)
    assert (LAG_FRACTION, SUSTAINED_LAG_FRACTION, FLOOR) == (0.07, 1 / 5, 1 / 10)
    assert STATE_SHARE == 1 / 2
    admission = Admission(Settings())
    for budget, cost in ((admission.candidates, SLATE_COST), (admission.events, LABEL_COST)):
        with budget.take(7):
            assert budget.used == cost + 7


class Slow(MemoryStore):
    """Answers late, or keeps the whole event loop busy."""

    def __init__(self, *, waits_s: float = 0.0, blocks_s: float = 0.0) -> None:
        super().__init__()
        self._waits_s = waits_s
        self._blocks_s = blocks_s
        self.busy = threading.Event()

    async def _be_slow(self) -> None:
        await asyncio.sleep(self._waits_s)
        self.busy.set()
        time.sleep(self._blocks_s)  # what a long computation on the loop does to all requests

    async def read(self, user_id: str) -> UserState | None:
        if user_id != "probe":
            await self._be_slow()
        return await super().read(user_id)

    async def record(self, user_id: str, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        await self._be_slow()
        return await super().record(user_id, events)


class Gated(MemoryStore):
    """Does one operation only once its gate is open."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self._operation = operation
        self.gate = threading.Event()

    async def _pass(self, operation: str) -> None:
        while operation == self._operation and not self.gate.is_set():
            await asyncio.sleep(0.005)

    async def read(self, user_id: str) -> UserState | None:
        if user_id != "probe":
            await self._pass("read")
        return await super().read(user_id)

    async def record(self, user_id: str, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        await self._pass("record")
        return await super().record(user_id, events)


def slate(count: int) -> dict[str, Any]:
    return {"user_id": "u", "candidates": [{"video_id": f"v{i}", "duration_s": 9.0} for i in range(count)]}


@contextmanager
def concurrently(
    client: httpx2.Client, count: int, path: str, **request: Any
) -> Iterator[list[httpx2.Response]]:
    """So many of the same request at once, each on a connection of its own; answered at the end of the
    block."""
    answers: list[httpx2.Response] = []

    def ask(_: int) -> httpx2.Response:
        with httpx2.Client(base_url=client.base_url, timeout=60) as own:
            return own.post(path, **request)

    with ThreadPoolExecutor(count) as threads:
        asked = [threads.submit(ask, i) for i in range(count)]
        yield answers
        answers += [a.result() for a in asked]


def test_slates_over_the_budget_are_refused_at_once_and_labels_go_on(bundles: Path, tmp_path: Path) -> None:
    room = 3 * (SLATE_COST + 20)
    store = Gated("read")
    refusals = 'reelrank_refusals_total{reason="candidates",route="/rerank"}'
    with served(bundles, store, tmp_path, max_inflight_candidates=room) as client:
        with concurrently(client, 12, "/rerank", json=slate(20)) as answers:
            assert eventually(lambda: metric(client, refusals) == 9)
            assert client.post("/label", json=event()).status_code == 200
            store.gate.set()
        good = [a for a in answers if a.status_code == 200]
        refused = [a for a in answers if a.status_code == 429]
        assert (len(good), len(refused)) == (3, 9)
        for answer in refused:
            assert answer.headers["content-type"] == "application/problem+json"
            assert "REELRANK_MAX_INFLIGHT_CANDIDATES" in answer.json()["detail"]
            assert 1 <= int(answer.headers["retry-after"]) <= MAX_RETRY_AFTER_S
            assert answer.headers["x-request-id"]
        assert metric(client, 'reelrank_requests_total{method="POST",route="/rerank",status="429"}') == 9
        assert client.post("/rerank", json=slate(20)).status_code == 200
        assert eventually(lambda: metric(client, 'reelrank_in_flight{what="candidates"}') == 0)


def test_labels_over_the_budget_are_refused_and_slates_go_on(bundles: Path, tmp_path: Path) -> None:
    store = Gated("record")
    refusals = 'reelrank_refusals_total{reason="events",route="/label"}'
    options = {"max_inflight_events": 100, "label_deadline_ms": 60_000}
    with served(bundles, store, tmp_path, **options) as client:
        body = [event(f"e{i}") for i in range(20)]
        with concurrently(client, 6, "/label", json=body) as answers:
            assert eventually(lambda: metric(client, refusals) == 5)
            assert client.post("/rerank", json=slate(5)).status_code == 200
            store.gate.set()
        assert sorted(a.status_code for a in answers) == [200] + [429] * 5
        assert client.post("/label", json=body).json()["duplicates"] == 20


def test_what_is_larger_than_the_budget_is_taken_when_it_is_alone(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, MemoryStore(), tmp_path, max_inflight_candidates=1, max_inflight_events=2) as client:
        assert client.post("/rerank", json=slate(50)).status_code == 200
        assert client.post("/label", json=[event(f"e{i}") for i in range(50)]).json()["accepted"] == 50


def test_streams_are_limited_and_wait_for_room(bundles: Path, tmp_path: Path) -> None:
    with served(bundles, Slow(waits_s=0.02), tmp_path, max_streams=3, max_inflight_events=6) as client:
        url = str(client.base_url)
        first, second, third = dialogues = [Dialogue(url) for _ in range(3)]
        for number, dialogue in enumerate(dialogues):
            for i in range(20):  # more than the room there is
                dialogue.say(line(f"e{number}-{i}", f"u{number}") + b"\n")
        for dialogue in dialogues:
            dialogue.headers()
        refused = client.post("/label", content=line("e", "u"), headers=NDJSON)
        assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
        assert "REELRANK_MAX_STREAMS" in refused.json()["detail"]
        for dialogue in (first, second, third):
            answers: list[Any] = []
            while len(answers) < 20:
                answers += dialogue.hear()
            assert all("label" in answer for answer in answers)
            dialogue.close()

        assert eventually(
            lambda: client.post("/label", content=line("e", "u"), headers=NDJSON).status_code == 200
        )


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/label", [event("a", "u1"), event("b", "u2")]),
        ("GET", "/users/u/sequence", None),
    ],
)
def test_what_uses_the_store_ends_at_its_deadline(
    bundles: Path, tmp_path: Path, method: str, path: str, body: Any
) -> None:
    with served(bundles, Slow(waits_s=5), tmp_path, label_deadline_ms=80) as client:
        late = client.request(method, path, json=body)
        assert late.status_code == 503
        assert "longer than" in late.json()["detail"]
        assert late.headers["retry-after"]
    with served(bundles, Slow(waits_s=0.2), tmp_path, label_deadline_ms=80) as client:
        patient = client.request(method, path, json=body, headers={"X-Deadline-Ms": "60000"})
        assert patient.status_code in (200, 404)


def test_a_request_whose_time_went_by_unseen_is_dropped_before_any_work(
    bundles: Path, tmp_path: Path
) -> None:
    store = Slow(blocks_s=0.5)
    with served(bundles, store, tmp_path) as client:
        client.get("/health/live")
        with concurrently(client, 1, "/rerank", json=slate(5), headers={"X-Deadline-Ms": "60000"}):
            assert store.busy.wait(10)  # the next request waits in the kernel
            late = client.post("/rerank", json=slate(5), headers={"X-Deadline-Ms": "100"})
        assert late.status_code == 503
        assert "before the request was looked at" in late.json()["detail"]
        assert metric(client, 'reelrank_refusals_total{reason="deadline_exceeded",route="/rerank"}') == 1
