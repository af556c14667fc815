"""The store in Redis and the store in a dictionary, given the same random histories, cannot be told apart."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.schema import FeedbackEvent
from service.store import MemoryStore, RedisStore, Store
from tests.service.stores import WINDOW_S, Clock, debian, embedded, event, memory_store, small_redis_store

USERS = ("alice", "7")
EVENTS = ("e1", "e2", "10", "9", "é", "x" * 250, "007")


@dataclass(frozen=True)
class Record:
    user_id: str
    events: tuple[FeedbackEvent, ...]


@dataclass(frozen=True)
class Forget:
    user_id: str


@dataclass(frozen=True)
class Profile:
    user_id: str
    age: float


@dataclass(frozen=True)
class Wait:
    seconds: float


@st.composite
def records(draw: st.DrawFn) -> Record:
    user = draw(st.sampled_from(USERS))
    batch = st.builds(
        event,
        st.sampled_from(EVENTS),
        st.just(user),
        st.integers(0, 4),  # few moments: ties are frequent
        video_id=st.sampled_from(["v1"] * 9 + ["v2"]),  # a contradiction now and then
        watch_time_s=st.sampled_from([0.0, 1.1, 48.4, 1 / 3]),
        duration_s=st.sampled_from([None, 10.0, 24.5]),
        like=st.booleans(),
        forward=st.booleans(),
        tab=st.sampled_from([None, "1", "2", "10", "a"]),
        tag=st.sampled_from([None, "39", "9" * 200, "z" * 255]),
    )
    return Record(user, tuple(draw(st.lists(batch, min_size=1, max_size=6))))


steps = st.one_of(
    records(),
    records(),
    records(),
    records(),
    st.builds(Forget, st.sampled_from(USERS)),
    st.builds(Profile, st.sampled_from(USERS), st.sampled_from([1.5, 2.0])),
    # Within the window however many, or beyond twice the window: in between a store may remember or not.
    st.builds(Wait, st.sampled_from([1.0, 2.0 * WINDOW_S])),
)


@pytest.fixture(scope="module", params=["embedded", "debian"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    start = {"embedded": embedded, "debian": debian}[request.param]
    with start(tmp_path_factory.mktemp("store")) as url:
        yield url


@given(st.lists(steps, max_size=20))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_both_stores_answer_alike(url: str, history: list[Record | Forget | Profile | Wait]) -> None:
    asyncio.run(_compare(url, history))


async def _compare(url: str, history: list[Record | Forget | Profile | Wait]) -> None:
    clock = Clock()
    model = memory_store(clock)
    async with small_redis_store(url, clock) as store:
        for step in history:
            if isinstance(step, Wait):
                clock.forward(step.seconds)
            else:
                assert await _do(store, step) == await _do(model, step), step
        await _same_users(store, model)


async def _do(store: Store, step: Record | Forget | Profile) -> object:
    if isinstance(step, Record):
        return await store.record(step.user_id, step.events), await store.read(step.user_id)
    if isinstance(step, Forget):
        return await store.forget(step.user_id)
    await store.put_profile(step.user_id, {"age": step.age})
    return None


async def _same_users(store: RedisStore, model: MemoryStore) -> None:
    for user in USERS:
        assert await store.read(user) == await model.read(user)
