"""Random histories: the store in Redis and the store in a dictionary give the same answers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.schema import FeedbackEvent, HistoryEntry
from service.state import RedisStore, Store
from tests.service.memory_store import MemoryStore
from tests.service.stores import WINDOW_S, Clock, event, memory_store, small_redis_store

pytestmark = pytest.mark.slow

USERS = ("alice", "7")
EVENTS = ("e1", "e2", "10", "9", "é", "x" * 250, "007")


@dataclass(frozen=True)
class Record:
    user_id: str
    events: tuple[FeedbackEvent, ...]


@dataclass(frozen=True)
class RecordMany:
    events: tuple[FeedbackEvent, ...]


@dataclass(frozen=True)
class Forget:
    user_id: str


@dataclass(frozen=True)
class Profile:
    user_id: str
    age: float


@dataclass(frozen=True)
class Before:
    user_id: str
    entries: tuple[HistoryEntry, ...]


@dataclass(frozen=True)
class Wait:
    seconds: float


Step = Record | RecordMany | Forget | Profile | Before


@st.composite
def records(draw: st.DrawFn) -> Record:
    user = draw(st.sampled_from(USERS))
    return Record(user, tuple(draw(st.lists(exposures(st.just(user)), min_size=1, max_size=6))))


def exposures(users: st.SearchStrategy[str]) -> st.SearchStrategy[FeedbackEvent]:
    return st.builds(
        event,
        st.sampled_from(EVENTS),
        users,
        st.integers(0, 4),  # few moments: ties are frequent
        video_id=st.sampled_from(["v1"] * 9 + ["v2"]),  # a contradiction now and then
        watch_time_s=st.sampled_from([0.0, 1.1, 48.4, 1 / 3]),
        duration_s=st.sampled_from([None, 10.0, 24.5]),
        like=st.booleans(),
        forward=st.booleans(),
        tab=st.sampled_from([None, "1", "2", "10", "a"]),
        tag=st.sampled_from([None, "39", "9" * 200, "z" * 255]),
    )


@st.composite
def rising(draw: st.DrawFn) -> RecordMany:
    """What nearly always comes: new events, newer than all before; now and then one that is not."""
    first = draw(st.integers(5, 50))
    users = draw(st.lists(st.sampled_from(USERS), min_size=1, max_size=6))
    return RecordMany(tuple(event(f"n{first + i}", user, after_ms=first + i) for i, user in enumerate(users)))


steps = st.one_of(
    records(),
    records(),
    st.builds(RecordMany, st.lists(exposures(st.sampled_from(USERS)), max_size=8).map(tuple)),
    rising(),
    rising(),
    st.builds(Forget, st.sampled_from(USERS)),
    st.builds(Profile, st.sampled_from(USERS), st.sampled_from([1.5, 2.0])),
    st.builds(
        Before,
        st.sampled_from(USERS),
        st.lists(
            st.builds(
                HistoryEntry, video_id=st.sampled_from(EVENTS), long_view=st.booleans(), like=st.booleans()
            )
        ).map(tuple),
    ),
    st.builds(Wait, st.sampled_from([1.0, WINDOW_S / 2, 2.0 * WINDOW_S])),
)


lengths = st.sampled_from([3, 9])
"""Of sequences: without room for appending to it, and with."""


@given(st.lists(steps, max_size=20), lengths)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_both_stores_answer_alike(store_url: str, history: list[Step | Wait], length: int) -> None:
    asyncio.run(_compare(store_url, history, length))


@given(st.lists(steps, max_size=10), lengths)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_store_whose_scripts_see_one_slot_each_answers_alike(
    store_url: str, history: list[Step | Wait], length: int
) -> None:
    asyncio.run(_compare(store_url, history, length, one_slot=True))


async def _compare(url: str, history: list[Step | Wait], length: int, *, one_slot: bool = False) -> None:
    clock = Clock()
    model = memory_store(clock, length)
    async with small_redis_store(url, clock, length) as store:
        store._one_slot = one_slot
        for step in history:
            if isinstance(step, Wait):
                clock.forward(step.seconds)
            else:
                assert await _do(store, step) == await _do(model, step), step
        await _same_users(store, model)


async def _do(store: Store, step: Step) -> object:
    if isinstance(step, RecordMany):
        return await store.record_many(step.events), [await store.read(user) for user in USERS]
    if isinstance(step, Record):
        return await store.record(step.user_id, step.events), await store.read(step.user_id)
    if isinstance(step, Forget):
        return await store.forget(step.user_id)
    if isinstance(step, Before):
        await store.put_history(step.user_id, step.entries)
    else:
        await store.put_profile(step.user_id, {"age": step.age})
    return None


async def _same_users(store: RedisStore, model: MemoryStore) -> None:
    for user in USERS:
        assert await store.read(user) == await model.read(user)
