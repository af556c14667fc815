"""What only a real server can show: sizes, lifetimes, crashes between steps, a server that is away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from models.errors import StoreUnavailable
from models.schema import FeedbackEvent, HistoryEntry, Video
from service.settings import Settings
from service.state import RedisStore, codec, open_store
from service.state.keys import user_digest
from service.state.recording import MAX_USERS
from tests.conftest import ROOT
from tests.service.stores import Clock, event, redis_store

pytestmark = pytest.mark.anyio


@pytest.fixture
def url(store_url: str) -> str:
    return store_url


@pytest.fixture
async def client(url: str) -> AsyncIterator[Redis]:
    """The server itself, empty."""
    async with Redis.from_url(url) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def store(url: str, client: Redis) -> AsyncIterator[RedisStore]:
    async with redis_store(url, prefix="rr") as store:
        yield store


def exposures(user_id: str, count: int, first: int = 0) -> list[FeedbackEvent]:
    """With ids of 8 bytes."""
    span = range(first, first + count)
    return [event(f"e{i:07d}", user_id, after_ms=i, video_id=f"v{i:07d}", watch_time_s=i / 8) for i in span]


async def bytes_of(client: Redis, pattern: str) -> int:
    pipeline = client.pipeline(transaction=False)
    async for key in client.scan_iter(pattern, count=1000):
        pipeline.memory_usage(key, samples=0)
    return sum(size or 0 for size in await pipeline.execute())


async def test_every_program_keeps_what_the_settings_say(url: str, client: Redis) -> None:
    settings = Settings(store=url, retention_s=100, sequence_length=2, idempotency_window_s=50)
    store = open_store(settings)
    await store.record("u", exposures("u", 3))
    await store.put_videos([Video(video_id="v")])
    state = await store.read("u")
    await store.close()
    left_ms = [await client.pttl(key) async for key in client.scan_iter("rr:*")]
    assert 0 < min(left_ms) <= max(left_ms) <= 100_000
    assert state is not None
    assert len(state.events) == 2
    programs = (ROOT / "service").rglob("*.py")
    opening = {path.name for path in programs if "RedisStore.open(" in path.read_text()}
    assert opening == {"opening.py"}


@pytest.mark.parametrize(("count", "most"), [(50, 2400), (100, 4600)])
async def test_a_user_takes_few_bytes(store: RedisStore, client: Redis, count: int, most: int) -> None:
    await store.record("u2345678", exposures("u2345678", count))
    size = await bytes_of(client, "rr:s:*")
    assert 39 * count < size <= most


@pytest.mark.parametrize("users", [1, 20])
async def test_remembering_an_event_takes_few_bytes(store: RedisStore, client: Redis, users: int) -> None:
    for user in range(users):
        name = f"u{user:07d}"
        await store.record(name, exposures(name, 100 + 2000 // users, first=10_000 * user))
    beyond = sum([await bytes_of(client, f"rr:{kind}:*") for kind in "dek"])
    assert 33 < beyond / 2000 <= 210


async def test_every_key_has_a_ttl(url: str, client: Redis) -> None:
    clock = Clock()
    clock.add(url, "rr")
    async with redis_store(url, prefix="rr") as store:
        for turn in range(4):
            clock.forward(50_000)  # more than half a window
            await store.record("alice", exposures("alice", 300, first=1000 * turn))
            await store.put_profile("alice", {"age": 3.0})
            await store.put_history("alice", [HistoryEntry(video_id="v1")])
            await store.put_videos([Video(video_id="v1")])
    kinds = set()
    async for key in client.scan_iter():
        assert await client.pttl(key) > 0, key
        kinds.add(key.split(b":")[1].decode())
    assert kinds == set("sdephkmvl")


async def test_lifetimes_are_the_documented_ones(store: RedisStore, client: Redis) -> None:
    await store.put_profile("alice", {"age": 3.0})
    await store.put_history("alice", [HistoryEntry(video_id="v1")])
    await store.record("alice", exposures("alice", 101))
    day = 86_400_000
    lifetimes = {kind: await client.pttl(f"rr:{kind}:{{alice}}") for kind in "sphd"}
    for kind, most in {"s": 90 * day, "p": 90 * day, "h": 90 * day, "d": 2 * day}.items():
        assert most - 60_000 < lifetimes[kind] <= most
    for kind in "ph":
        await client.pexpire(f"rr:{kind}:{{alice}}", 1000)
    await store.record("alice", exposures("alice", 1))  # a duplicate is a sign of life too
    for kind in "ph":
        assert await client.pttl(f"rr:{kind}:{{alice}}") > 60_000


async def test_following_the_catalogue_keeps_it_alive(store: RedisStore, client: Redis) -> None:
    await store.put_videos([Video(video_id="v1")])
    keys = [key async for key in client.scan_iter("rr:?:{videos}")]
    for key in keys:
        await client.pexpire(key, 10_000)
    await store.videos_since("")
    assert len(keys) == 3
    for key in keys:
        assert await client.pttl(key) > 60_000


async def test_sequences_are_let_go_after_their_ttl(url: str, client: Redis) -> None:
    async with redis_store(url, sequence_ttl_s=0.05, idempotency_window_s=0.05) as store:
        await store.record("alice", exposures("alice", 101))
        await store.put_profile("alice", {"age": 3.0})
        for _ in range(200):
            if not await client.dbsize():
                break
            await asyncio.sleep(0.02)
        assert await store.read("alice") is None
    assert await client.dbsize() == 0


async def test_forgetting_removes_every_key_of_the_user(store: RedisStore, client: Redis) -> None:
    await store.record("alice", exposures("alice", 250))
    await store.put_profile("alice", {"age": 3.0})
    await store.put_history("alice", [HistoryEntry(video_id="v1")])
    await store.forget("alice")
    assert [key async for key in client.scan_iter()] == []


async def test_a_crash_between_the_two_steps_is_healed_by_a_retry(store: RedisStore) -> None:
    batch = exposures("alice", 3)
    assert await store._claim([("alice", batch)]) == [None] * 3
    assert await store.read("alice") is None  # nothing was acknowledged, nothing is there
    assert [o.kind for o in await store.record("alice", batch)] == ["accepted"] * 3


async def test_two_users_racing_for_an_id_do_not_both_get_it(url: str, store: RedisStore) -> None:
    async with redis_store(url, prefix="rr") as other:
        for number in range(20):
            name = f"race{number}"
            a, b = await asyncio.gather(
                store.record("alice", [event(name, "alice")]), other.record("bob", [event(name, "bob")])
            )
            assert sorted((a[0].kind, b[0].kind)) == ["accepted", "conflict"]


async def test_one_users_events_over_many_connections_are_all_kept(url: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(redis_store(url, prefix="shared")) for _ in range(8)]
        store = stores[0]
        batches = [exposures("alice", 5, first=3 * i) for i in range(30)]  # overlapping
        outcomes = await asyncio.gather(
            *(stores[i % 8].record("alice", batch) for i, batch in enumerate(batches))
        )
        state = await store.read("alice")
    assert state is not None
    assert [e.event_id for e in state.events] == [f"e{i:07d}" for i in range(92)]
    assert sum(o.kind == "accepted" for batch in outcomes for o in batch) == 92


async def test_a_server_that_lost_its_scripts_is_given_them_again(store: RedisStore, client: Redis) -> None:
    for size in (1, 40):
        await client.script_flush()
        outcomes = await store.record("alice", exposures("alice", size, first=100 * size))
        assert [o.kind for o in outcomes] == ["accepted"] * size


async def test_a_follower_of_a_store_that_was_emptied_starts_over(store: RedisStore, client: Redis) -> None:
    await store.put_videos([Video(video_id=f"v{i}") for i in range(5)])
    cursor, _ = await store.videos_since("")
    await client.flushall()
    await store.put_videos([Video(video_id="new")])
    assert (await store.videos_since(cursor))[1] == [Video(video_id="new")]


async def test_a_catalogue_of_many_pages_arrives_whole(store: RedisStore) -> None:
    videos = [Video(video_id=str(i), duration_s=1 + i / 8) for i in range(2500)]
    await store.put_videos(videos)
    _, found = await store.videos_since("")
    assert found == videos


@pytest.mark.parametrize("cursor", ["", ":", "nonsense", "gone:7", "0:0"])
async def test_any_cursor_gets_an_answer(store: RedisStore, cursor: str) -> None:
    await store.put_videos([Video(video_id="v")])
    assert (await store.videos_since(cursor))[1] == [Video(video_id="v")]


@pytest.mark.parametrize(
    "stored", [b"", b"\x03", b"\x92", b"\x02\0\0\0\1\0\x0f" + bytes(15), b"\x01nonsense"]
)
async def test_a_sequence_of_another_build_is_refused_and_left_alone(
    store: RedisStore, client: Redis, stored: bytes
) -> None:
    await client.set("rr:s:{alice}", stored)
    with pytest.raises(StoreUnavailable, match="cannot read"):
        await store.read("alice")
    assert [o.kind for o in await store.record("alice", [event()])] == ["unreadable"]
    assert await client.get("rr:s:{alice}") == stored


async def test_a_script_stores_the_bytes_that_the_codec_encodes(store: RedisStore, client: Redis) -> None:
    longer = {"tag": "z" * 200}
    for batch in (
        exposures("alice", 1),
        exposures("alice", 99, first=1),  # appended
        [event("old", after_ms=-1, **longer)],  # not even kept
        [event("middle", after_ms=50, **longer)],
        [event("e0000099", after_ms=99, video_id="v0000099", **longer)],  # the newest, merged
        [event("new", after_ms=200, **longer)],
        [event("e0000099", after_ms=300, video_id="v0000099")],  # takes the place of the newest
        exposures("alice", 250, first=400),  # more than there is room for
        [event("tie", after_ms=649)],
        [event("new2", after_ms=700), event("new1", after_ms=699)],
    ):
        await store.record("alice", batch)
        stored = await client.get("rr:s:{alice}")
        assert isinstance(stored, bytes)
        state = await store.read("alice")
        assert state is not None
        kept = codec.decode_sequence("alice", stored, 125)
        assert stored == codec.encode_sequence(kept)
        assert state.events == kept[-100:]


@pytest.mark.parametrize(
    "damage",
    [
        ("SET", "rr:s:{bob}", b"\x01nonsense"),
        ("SET", "rr:s:{bob}", b"\x02nonsense"),
        ("SADD", "rr:s:{bob}", "of another type"),
        ("SADD", "rr:d:{bob}", "of another type"),
        ("HSET", "rr:d:{bob}", "at", b"", b"\0", b"a page that is none"),
    ],
)
async def test_a_user_of_whom_something_is_damaged_is_rejected_alone_and_can_be_forgotten(
    store: RedisStore, client: Redis, caplog: pytest.LogCaptureFixture, damage: tuple[str | bytes, ...]
) -> None:
    execute: Any = client.execute_command
    await execute(*damage)
    body = [
        event("bob-2", "bob", after_ms=2),
        *(event(f"{user}-1", user, after_ms=1) for user in ("alice", "bob", "carol")),
    ]
    outcomes = await store.record_many(body)
    assert [o.kind for o in outcomes] == ["unreadable", "accepted", "unreadable", "accepted"]
    [line] = [record for record in caplog.records if record.name == "reelrank.store"]
    assert line.__dict__["user_digests"] == [user_digest("bob").hex()]
    assert await store.forget("bob") is True
    assert [key async for key in client.scan_iter() if b"bob" in key] == []
    assert [o.kind for o in await store.record_many(body)] == [
        "accepted",
        "duplicate",
        "accepted",
        "duplicate",
    ]


async def test_a_shorter_sequence_length_than_another_services_is_a_risk(url: str, client: Redis) -> None:
    async def is_risk(length: int) -> bool:
        async with redis_store(url, prefix="rr", sequence_length=length) as store:
            return "shortened" in await store.risks()

    assert [await is_risk(length) for length in (100, 100, 5, 5, 100, 101, 100)] == [
        False,
        False,
        True,
        True,
        False,
        False,
        True,
    ]
    await client.delete("rr:length")  # its time is over: the longer one has ended
    assert not await is_risk(5)


async def test_an_event_costs_as_few_bytes_of_log_when_its_user_has_many(
    store: RedisStore, client: Redis
) -> None:
    async def size() -> int:
        return int((await client.info("persistence"))["aof_current_size"])

    async def appended(user: str, first: int) -> int:
        before = await size()
        for e in exposures(user, 60, first):
            await store.record(user, [e])
        return await size() - before

    await client.config_set("appendfsync", "no")  # with `everysec` it writes later while a sync is slow
    try:
        few = await appended("a-new-one", 10**6)
        await store.record("anonymous", exposures("anonymous", 6000))
        many = await appended("anonymous", 6000)
    finally:
        await client.config_set("appendfsync", "everysec")
    assert 0 < many / 60 < 600
    assert many < 1.5 * few + 60 * 200  # a new user's sequence has nothing to let go of yet
    assert await store.forget("anonymous")
    assert len([key async for key in client.scan_iter("rr:k:*", count=1000)]) == 60  # the other user's


async def scripts_run(client: Redis) -> int:
    return int((await client.info("commandstats")).get("cmdstat_evalsha", {"calls": 0})["calls"])


@pytest.mark.parametrize(
    ("users", "events", "calls"),
    [(1, 1, 1), (1, 100, 1), (MAX_USERS, 1, 1), (MAX_USERS, 8, 3), (MAX_USERS + 1, 1, 2), (1, 1001, 3)],
)
async def test_a_body_is_one_script_until_it_would_keep_the_server_from_others(
    store: RedisStore, client: Redis, users: int, events: int, calls: int
) -> None:
    await store.record("alice", exposures("alice", 1))  # it has the script
    before = await scripts_run(client)
    body = [e for u in range(users) for e in exposures(f"u{u}", events, first=2000 * u + 1)]
    assert {o.kind for o in await store.record_many(body)} == {"accepted"}
    assert await scripts_run(client) - before == calls


async def test_ten_thousand_events_in_one_batch(url: str) -> None:
    async with redis_store(url) as store:
        batch = exposures("alice", 10_000)
        assert {o.kind for o in await store.record("alice", batch[::-1])} == {"accepted"}
        assert {o.kind for o in await store.record("alice", batch)} == {"duplicate"}
        state = await store.read("alice")
    assert state is not None
    assert state.events == batch[-100:]
