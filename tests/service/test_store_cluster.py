"""A cluster whose slots move and whose nodes go, while the store is used."""

from __future__ import annotations

import asyncio
import signal
import struct
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path

import pytest
from redis.crc import key_slot

from models.errors import StoreUnavailable
from models.schema import Video
from service.state import GuardedStore, RedisStore
from service.state.keys import user_digest
from service.stream.redis_stream import EventStream, Names
from service.stream.source import Output
from tests.service import clusters
from tests.service.clusters import Cluster, cluster
from tests.service.stores import event, redis_store

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("clusters"), pytest.mark.slow]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("nodes"), spare=1) as ready:
        yield ready


@asynccontextmanager
async def store_on(nodes: Cluster, options: str = "") -> AsyncIterator[RedisStore]:
    async with redis_store(nodes.url + options) as store:
        yield store


def slot(tag: str) -> int:
    return int(key_slot(tag.encode()))


async def ids_of(store: RedisStore, user_id: str) -> list[str]:
    state = await store.read(user_id)
    return [] if state is None else [e.event_id for e in state.events]


async def test_while_a_users_keys_are_on_two_nodes_they_are_read_and_writes_wait(nodes: Cluster) -> None:
    async with store_on(nodes) as store:
        await store.record("alice", [event("e1")])
        await store.put_profile("alice", {"age": 3.0})
        before = await store.read("alice")
        with nodes.moving(slot("alice"), nodes.other(slot("alice"))) as step:
            assert step()
            assert await store.read("alice") == before
            writing = asyncio.create_task(store.record("alice", [event("e2", after_ms=1)]))
            await asyncio.sleep(0.1)
            assert not writing.done()
        assert [outcome.kind for outcome in await writing] == ["accepted"]
        assert await ids_of(store, "alice") == ["e1", "e2"]


async def test_a_slot_that_stays_between_two_nodes_fails_for_its_users_only(
    nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.state.cluster.RETRY_WINDOW_S", 0.1)
    async with store_on(nodes) as store:
        await store.record("bob", [event("b1", "bob")])
        await store.put_profile("bob", {"age": 3.0})
        with nodes.moving(slot("bob"), nodes.other(slot("bob"))) as step:
            step()
            with pytest.raises(StoreUnavailable, match="could not keep these events"):
                await store.record("bob", [event("b2", "bob", after_ms=1)])
            await store.record("carol", [event("c1", "carol")])
            assert await ids_of(store, "bob") == ["b1"]
        assert [o.kind for o in await store.record("bob", [event("b2", "bob", after_ms=1)])] == ["accepted"]


async def test_a_slot_may_go_to_a_node_that_had_none(nodes: Cluster) -> None:
    newcomer = nodes.nodes[-1]
    async with store_on(nodes) as store:
        await store.record("dave", [event("d1", "dave")])
        with nodes.moving(slot("dave"), newcomer) as step:
            while step():
                pass
            assert await ids_of(store, "dave") == ["d1"]  # asked there, as the old one says
            # A script with a key that is not there yet has to wait until they all must be.
            writing = asyncio.create_task(store.record("dave", [event("d2", "dave", after_ms=1)]))
            await asyncio.sleep(0.05)
        assert [outcome.kind for outcome in await writing] == ["accepted"]
        assert nodes.owner(slot("dave")) is newcomer
        assert await ids_of(store, "dave") == ["d1", "d2"]


async def test_moving_slots_under_load_costs_no_call(nodes: Cluster) -> None:
    """Those of users, of claims on event ids and of the catalogue, there and back again."""
    users = [f"u{i}" for i in range(6)]
    slots = {slot(tag) for tag in (*users, "videos", *(f"{shard:02d}" for shard in range(6)))}
    moved = asyncio.Event()
    acknowledged: dict[str, set[str]] = {user: set() for user in users}

    async def load(user: str) -> None:
        number = 0
        while not moved.is_set():
            batch = [event(f"{user}-{number + i}", user, after_ms=number + i) for i in range(3)]
            assert {o.kind for o in await store.record(user, batch)} == {"accepted"}
            acknowledged[user] |= {e.event_id for e in batch}
            assert await ids_of(store, user) == [f"{user}-{i}" for i in range(number + 3)][-100:]
            await store.put_videos([Video(video_id=user, duration_s=1.0 + number)])
            number += 3

    def move_all() -> None:
        for each in slots:
            nodes.move(each, nodes.other(each))

    async with store_on(nodes) as store:
        senders = [asyncio.create_task(load(user)) for user in users]
        await asyncio.to_thread(move_all)
        moved.set()
        await asyncio.gather(*senders)
        assert min(map(len, acknowledged.values())) > 0
        for user in users:
            again = [event(each, user, after_ms=int(each.partition("-")[2])) for each in acknowledged[user]]
            assert {o.kind for o in await store.record(user, again)} == {"duplicate"}


async def test_a_sequence_of_an_older_build_is_upgraded(nodes: Cluster) -> None:
    record = b"\0" + event().timestamp_ms.to_bytes(6) + struct.pack(">ff", 2.5, 0.0) + b"\1o1" + b"\0v"
    page = record.replace(b"o1", b"o0")
    async with store_on(nodes) as store:
        sequence, seen, *_ = store._keys.user("oscar")
        clock = int(time.time() * 1000).to_bytes(6) * 2
        nodes.owner(slot("oscar")).command(
            "SET", sequence, b"\2" + struct.pack(">IH", 1, len(record)) + record
        )
        nodes.owner(slot("oscar")).command("HSET", seen, "at", clock, b"\0", page)
        digest = blake2b(b"o0", digest_size=8).digest()
        claims = store._old_claims[2 * (digest[0] % 64)]
        node = nodes.owner(slot(claims[-3:-1]))
        node.command("HSET", claims, digest, user_digest("oscar"))
        node.command("PEXPIRE", claims, 10**6)
        batch = [event(i, "oscar", video_id="v", watch_time_s=1.0) for i in ("o0", "o1", "o2")]
        assert [o.kind for o in await store.record("oscar", batch)] == ["merged", "merged", "accepted"]
        assert await ids_of(store, "oscar") == ["o0", "o1", "o2"]


async def test_a_batch_of_events_claimed_everywhere_is_written_whole(nodes: Cluster) -> None:
    async with store_on(nodes) as store:
        batch = [event(f"w{i:04d}", "walter", after_ms=i) for i in range(1200)]
        assert {o.kind for o in await store.record("walter", batch)} == {"accepted"}
        stolen = [event(e.event_id, "wendy", after_ms=i) for i, e in enumerate(batch)]
        assert {o.kind for o in await store.record("wendy", stolen)} == {"conflict"}
        assert await store.forget("walter")
        assert {o.kind for o in await store.record("wendy", stolen)} == {"accepted"}


async def test_a_silent_node_costs_its_own_users_only(nodes: Cluster) -> None:
    frozen = nodes.owner(slot("alice"))
    near, far = (
        next(f"n{i}" for i in range(99) if (nodes.owner(slot(f"n{i}")) is frozen) == here)
        for here in (True, False)
    )
    opened = []
    inner = RedisStore.open(nodes.url, timeout_s=0.1, prefix="silent")
    store = GuardedStore(inner, changed=lambda calls, state: opened.append((calls, state)))
    await store.read(far)
    frozen.signal(signal.SIGSTOP)
    try:
        reasons = set()
        for _ in range(12):
            with pytest.raises(StoreUnavailable) as caught:
                await store.put_profile(near, {})
            reasons.add(caught.value.reason)
            await store.put_profile(far, {"age": 1.0})
        assert reasons == {"shard", "circuit_open"}
        assert opened == []  # no other calls are refused
        with pytest.raises(StoreUnavailable):
            await store.ping()
    finally:
        frozen.signal(signal.SIGCONT)
    for _ in range(100):
        try:
            await store.put_profile(near, {"age": 2.0})
            break
        except StoreUnavailable:
            await asyncio.sleep(0.05)
    state = await store.read(near)
    assert state is not None
    assert state.profile == {"age": 2.0}
    await store.close()


async def test_a_node_without_cluster_mode_is_named_as_such(tmp_path: Path) -> None:
    with clusters.node(tmp_path / "single") as single:
        store = RedisStore.open(f"redis+cluster://127.0.0.1:{single.port}")
        with pytest.raises(StoreUnavailable, match="cluster support disabled"):
            await store.ping()
        await store.close()


async def test_the_configuration_of_every_primary_is_looked_at(nodes: Cluster) -> None:
    primary = nodes.owner(0)
    async with store_on(nodes) as store:
        assert "replica" not in await store.risks()
        primary.command("CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru")
        try:
            assert "set noeviction" in (await store.risks())["eviction"]
        finally:
            primary.command("CONFIG", "SET", "maxmemory", "0", "maxmemory-policy", "noeviction")
        assert "eviction" not in await store.risks()


async def test_a_write_that_no_replica_has_does_not_count(nodes: Cluster) -> None:
    async with store_on(nodes, "?replicas=1") as store:
        with pytest.raises(StoreUnavailable) as caught:
            await store.record("erin", [event("n1", "erin")])
        assert caught.value.reason == "replicas"


async def test_entries_of_a_stream_have_one_output_each_while_their_slot_moves(nodes: Cluster) -> None:
    tag = "{streams}"
    names = Names(f"{tag}:events", "g", "me", f"{tag}:labels", f"{tag}:dead")
    key = slot("streams")
    stream = EventStream.open(nodes.url, names, maxlen=10_000)
    await stream.prepare()
    for number in range(60):
        nodes.owner(key).command("XADD", names.stream, "*", "event", number)
    settled = []
    for _ in range(3):
        with nodes.moving(key, nodes.other(key)) as step:
            entries = []
            for _ in range(100):
                try:
                    entries = await stream.new(20)
                    break
                except StoreUnavailable:
                    step()
        settled += await stream.settle([Output(e.id, "labels", {"entry": e.id}) for e in entries])
    assert len(settled) == 60
    assert (await stream.backlog()).pending == 0
    assert nodes.owner(key).command("XLEN", names.labels) == 60
    await stream.trim()
    await stream.leave()
