"""The circuit breaker: by itself against random histories, around a store, and before a faulty network."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from models.errors import StoreUnavailable
from models.schema import FeedbackEvent
from service.state import GuardedStore, Outcome, UserState
from service.state.breaker import FAILURES, OPEN_S, WINDOW, Breaker
from service.state.guarded import MAX_LARGE_BATCHES, SMALL_BATCH
from tests.service.memory_store import MemoryStore
from tests.service.stores import event

pytestmark = pytest.mark.anyio


class Seconds:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class BreakerHistories(RuleBasedStateMachine):
    """Calls begin, end and overlap at random; the model is the list of what the closed circuit has heard."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Seconds()
        self.states: list[str] = []
        self.breaker = Breaker(clock=self.clock, changed=self.states.append)
        self.heard: list[bool] = []
        self.fresh: list[int] = []
        self.stale: list[int] = []
        self.opened_at = 0.0

    @property
    def now_is(self) -> str:
        return self.states[-1] if self.states else "closed"

    @rule(seconds=st.sampled_from([0.0, OPEN_S / 2, OPEN_S]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def a_call_begins(self) -> None:
        before = self.now_is
        if before == "half_open" or (before == "open" and self.clock.now < self.opened_at + OPEN_S):
            with pytest.raises(StoreUnavailable):
                self.breaker.enter()
            return
        turn = self.breaker.enter()
        if before != "closed":
            assert before == "open"
            assert self.now_is == "half_open"
            self.stale += self.fresh
            self.fresh = []
        self.fresh.append(turn)

    @precondition(lambda self: self.fresh)
    @rule(answered=st.sampled_from([True, False, None]))
    def a_call_ends(self, answered: bool | None) -> None:
        before, turn = self.now_is, self.fresh.pop()
        self.breaker.leave(turn, answered)
        if before == "half_open":
            assert self.now_is == ("closed" if answered else "open")
            self.opened_at = self.clock.now if answered is False else self.clock.now - OPEN_S
            self.heard = []
        elif answered is not None:
            self.heard.append(answered)
            opens = self.heard[-WINDOW:].count(False) >= FAILURES
            assert self.now_is == ("open" if opens else "closed")
            if opens:
                self.opened_at, self.heard = self.clock.now, []
        if self.now_is != before:
            self.stale += self.fresh
            self.fresh = []

    @precondition(lambda self: self.stale)
    @rule(answered=st.sampled_from([True, False, None]))
    def a_call_of_before_the_change_ends_and_changes_nothing(self, answered: bool | None) -> None:
        before = len(self.states)
        self.breaker.leave(self.stale.pop(), answered)
        assert len(self.states) == before

    @invariant()
    def only_known_steps_were_taken(self) -> None:
        steps = set(zip(["closed", *self.states], self.states, strict=False))
        assert steps <= {
            ("closed", "open"), ("open", "half_open"), ("half_open", "open"), ("half_open", "closed"),
        }  # fmt: skip
        assert self.breaker.state == self.now_is

    @invariant()
    def at_most_one_probe_is_out(self) -> None:
        assert self.now_is != "half_open" or len(self.fresh) == 1


TestBreakerHistories = BreakerHistories.TestCase
TestBreakerHistories.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)


class Faulty(MemoryStore):
    """Fails for a reason while it has one, holds calls at a gate while it has one; counts what reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self.reason: str | None = None
        self.gate: asyncio.Event | None = None
        self.asked = 0
        self.inside = self.most_inside = 0

    async def _step(self) -> None:
        self.asked += 1
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        if self.gate is not None:
            await self.gate.wait()
        self.inside -= 1
        if self.reason is not None:
            raise StoreUnavailable("away", reason=self.reason)

    async def read(self, user_id: str) -> UserState | None:
        await self._step()
        return await super().read(user_id)

    async def record(self, user_id: str, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        await self._step()
        return await super().record(user_id, events)


@pytest.fixture
def below() -> Faulty:
    return Faulty()


@pytest.fixture
def clock() -> Seconds:
    return Seconds()


@pytest.fixture
def store(below: Faulty, clock: Seconds) -> GuardedStore:
    return GuardedStore(below, clock=clock)


async def turns() -> None:
    """Let all tasks go as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def fail(store: GuardedStore, times: int) -> list[str]:
    reasons = []
    for _ in range(times):
        with pytest.raises(StoreUnavailable) as caught:
            await store.read("alice")
        reasons.append(caught.value.reason)
    return reasons


async def test_after_five_unanswered_reads_the_store_is_left_alone(
    store: GuardedStore, below: Faulty
) -> None:
    below.reason = "timeout"
    assert await fail(store, 8) == ["timeout"] * FAILURES + ["circuit_open"] * 3
    assert below.asked == FAILURES


LARGE_BATCH = [event(f"e{i}", after_ms=i) for i in range(SMALL_BATCH + 1)]


async def test_bodies_wait_for_each_other_and_single_events_do_not_wait_for_them(
    store: GuardedStore, below: Faulty
) -> None:
    below.gate = asyncio.Event()
    bodies = [asyncio.create_task(store.record_many(LARGE_BATCH)) for _ in range(3 * MAX_LARGE_BATCHES)]
    await turns()
    assert below.inside == MAX_LARGE_BATCHES
    singles = [asyncio.create_task(store.record_many(LARGE_BATCH[:1])) for _ in range(5)]
    await turns()
    assert below.inside == MAX_LARGE_BATCHES + 5
    below.gate.set()
    for answers in await asyncio.gather(*bodies, *singles):
        assert answers
    assert below.most_inside == MAX_LARGE_BATCHES + 5


async def test_bodies_that_wait_while_the_store_goes_away_do_not_ask_it(
    store: GuardedStore, below: Faulty
) -> None:
    below.reason, below.gate = "timeout", asyncio.Event()
    tries = [asyncio.create_task(store.record_many(LARGE_BATCH)) for _ in range(5 * MAX_LARGE_BATCHES)]
    await turns()
    below.gate.set()
    reasons = [e.reason for e in await asyncio.gather(*tries, return_exceptions=True)]  # type: ignore[union-attr]  # each fails
    assert reasons.count("timeout") == below.asked <= MAX_LARGE_BATCHES + FAILURES
    assert set(reasons) == {"timeout", "circuit_open"}


async def test_writes_go_on_while_reads_are_given_up(store: GuardedStore, below: Faulty) -> None:
    below.reason = "timeout"
    await fail(store, FAILURES)
    below.reason = None
    assert (await store.record("alice", [event()]))[0].kind == "accepted"
    assert await fail(store, 1) == ["circuit_open"]


@pytest.mark.parametrize("reason", ["full", "read_only", "denied", "disk", "unreadable"])
async def test_a_store_that_answers_no_is_still_asked(
    store: GuardedStore, below: Faulty, reason: str
) -> None:
    below.reason = reason
    assert await fail(store, 2 * WINDOW) == [reason] * 2 * WINDOW


async def test_one_probe_closes_it_again(store: GuardedStore, below: Faulty, clock: Seconds) -> None:
    below.reason = "connection"
    await fail(store, FAILURES)
    below.reason = None
    clock.now += OPEN_S
    below.gate = asyncio.Event()
    probe = asyncio.create_task(store.read("alice"))
    await turns()
    assert await fail(store, 3) == ["circuit_open"] * 3
    below.gate.set()
    await probe
    assert await store.read("alice") is None
    assert below.asked == FAILURES + 2


@pytest.mark.parametrize(("waited_s", "counts"), [(0.001, False), (0.05, True)])
async def test_callers_who_give_up_count_if_they_have_waited(
    store: GuardedStore, below: Faulty, clock: Seconds, waited_s: float, counts: bool
) -> None:
    below.gate = asyncio.Event()
    for _ in range(FAILURES):
        call = asyncio.create_task(store.read("alice"))
        await turns()
        clock.now += waited_s
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    below.gate = None
    if counts:
        assert await fail(store, 1) == ["circuit_open"]
    else:
        assert await store.read("alice") is None


async def test_giving_up_on_one_of_many_that_are_answered_says_nothing(
    store: GuardedStore, below: Faulty, clock: Seconds
) -> None:
    for _ in range(2 * FAILURES):
        below.gate = asyncio.Event()
        call = asyncio.create_task(store.read("alice"))
        await turns()
        clock.now += 1
        below.gate = None
        await store.read("bob")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert await store.read("alice") is None


async def test_writes_that_hang_leave_room_and_fail_when_the_circuit_opens(
    store: GuardedStore, below: Faulty
) -> None:
    below.gate, below.reason = asyncio.Event(), "timeout"
    writes = [asyncio.create_task(store.record(f"u{i}", [event()])) for i in range(200)]
    await turns()
    assert below.inside == 48
    below.gate.set()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert below.asked <= 48 + 1
    reasons = [r.reason for r in results if isinstance(r, StoreUnavailable)]
    assert reasons.count("circuit_open") == 200 - below.asked
