"""The three streams on real servers: what is given out, taken over, settled and trimmed."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from redis import Redis

from models.errors import BadInput, StoreUnavailable
from service.state.embedded import server_binary
from service.stream.redis_stream import EventStream, Names
from service.stream.source import Entry, Output
from tests.service.stores import cluster, run

_numbers = itertools.count()


@pytest.fixture
def url(store_url: str) -> str:
    return store_url


@pytest.fixture
def names() -> Names:
    """Streams of the test's own."""
    n = next(_numbers)
    # test_consume.py numbers its own streams on the same server of this worker.
    return Names(f"raw-events-{n}", "g", "me", f"raw-labels-{n}", f"raw-dead-{n}")


@pytest.fixture
def redis(url: str) -> Iterator[Redis]:
    with Redis.from_url(url) as client:
        yield client


@asynccontextmanager
async def stream(
    url: str, names: Names, consumer: str = "me", maxlen: int = 1000
) -> AsyncIterator[EventStream]:
    own = Names(names.stream, names.group, consumer, names.labels, names.dead)
    opened = EventStream.open(url, own, maxlen=maxlen)
    try:
        await opened.prepare()
        yield opened
    finally:
        await opened.leave()


def entries_of(redis: Redis, key: str) -> list[tuple[bytes, dict[bytes, bytes]]]:
    return cast(list[tuple[bytes, dict[bytes, bytes]]], redis.xrange(key))


def labelled(entry: Entry) -> Output:
    return Output(entry.id, "labels", {"entry": entry.id, "label": b"{}"})


def fill(redis: Redis, names: Names, count: int) -> None:
    for i in range(count):
        redis.xadd(names.stream, {"event": str(i)})


def test_what_was_there_before_the_group_is_given_out_each_once(url: str, names: Names, redis: Redis) -> None:
    fill(redis, names, 5)

    async def main() -> list[bytes]:
        async with stream(url, names) as mine, stream(url, names, "you") as yours:
            got = await mine.new(2) + await yours.new(10)
            return [entry.fields[b"event"] for entry in got]

    assert run(main()) == [b"0", b"1", b"2", b"3", b"4"]


def test_settling_again_by_anybody_writes_nothing(url: str, names: Names, redis: Redis) -> None:
    fill(redis, names, 3)

    async def main() -> None:
        async with stream(url, names) as mine, stream(url, names, "you") as yours:
            outputs = [labelled(entry) for entry in await mine.new(10)]
            assert await mine.settle(outputs[:2]) == outputs[:2]
            assert await yours.settle(outputs) == outputs[2:]
            assert await mine.settle(outputs) == []
            assert (await mine.backlog()).pending == 0

    run(main())
    assert [fields[b"entry"] for _, fields in entries_of(redis, names.labels)] == [
        id_ for id_, _ in entries_of(redis, names.stream)
    ]


def test_a_server_without_memory_acknowledges_nothing(url: str, names: Names, redis: Redis) -> None:
    """A script that fails in the middle keeps what it has done; nothing may be acknowledged and unwritten."""
    fill(redis, names, 3)

    async def main() -> None:
        async with stream(url, names) as mine:
            outputs = [labelled(entry) for entry in await mine.new(10)]
            redis.config_set("maxmemory", 1)
            try:
                with pytest.raises(StoreUnavailable) as caught:
                    await mine.settle(outputs)
                assert caught.value.reason == "full"
                assert (await mine.backlog()).pending == 3 - redis.xlen(names.labels)
            finally:
                redis.config_set("maxmemory", 0)
            await mine.settle(outputs)

    run(main())
    assert redis.xlen(names.labels) == 3


def test_only_what_has_been_idle_is_taken_over_and_deliveries_are_counted(
    url: str, names: Names, redis: Redis
) -> None:
    fill(redis, names, 2)

    async def main() -> None:
        async with stream(url, names) as mine, stream(url, names, "you") as yours:
            first, second = await mine.new(10)
            assert await yours.abandoned(b"0-0", 60.0) == (b"0-0", None, 0)
            cursor, taken, _ = await yours.abandoned(b"0-0", 0.0)
            assert taken == first
            assert (await yours.deliveries(first), await yours.deliveries(second)) == (2, 1)
            assert await mine.own(b"0-0") == second
            assert (await yours.abandoned(cursor, 0.0))[1] == second
            assert await mine.own(b"0-0") is None

    run(main())


def test_an_entry_deleted_from_under_us_is_told(url: str, names: Names, redis: Redis) -> None:
    fill(redis, names, 2)

    async def main() -> None:
        async with stream(url, names) as mine:
            first, second = await mine.new(10)
            redis.xdel(names.stream, first.id, second.id)
            assert await mine.own(b"0-0") == Entry(first.id, {})
            found = [await mine.abandoned(b"0-0", 0.0) for _ in range(2)]
            assert sum(gone for _, _, gone in found) == 2

    run(main())


def test_outputs_are_bounded_and_only_settled_events_are_trimmed(
    url: str, names: Names, redis: Redis
) -> None:
    fill(redis, names, 500)
    redis.xgroup_create(names.stream, "slow", id="0")
    redis.xreadgroup("slow", "s", {names.stream: ">"}, count=100)

    async def main() -> None:
        async with stream(url, names, maxlen=100) as mine:
            entries = await mine.new(500)
            await mine.settle([labelled(entry) for entry in entries[:450]])
            await mine.trim()
            assert redis.xlen(names.stream) == 500  # the other group has settled none
            redis.xack(names.stream, "slow", *(entry.id for entry in entries[:100]))
            await mine.trim()
            assert redis.xlen(names.stream) == 401  # the last one given out stays
            redis.xgroup_destroy(names.stream, "slow")
            await mine.trim()
            assert [id_ for id_, _ in entries_of(redis, names.stream)] == [
                entry.id for entry in entries[450:]
            ]

    run(main())
    assert 100 <= redis.xlen(names.labels) <= 300  # about: a node of the stream is let go as a whole


def test_who_leaves_with_nothing_pending_leaves_no_name(url: str, names: Names, redis: Redis) -> None:
    fill(redis, names, 1)

    async def main() -> None:
        async with stream(url, names, "idle"):
            pass
        async with stream(url, names, "busy") as busy:
            await busy.new(1)

    run(main())
    assert [c["name"] for c in redis.xinfo_consumers(names.stream, "g")] == [b"busy"]


def test_a_key_that_is_no_stream_is_named(url: str, names: Names, redis: Redis) -> None:
    redis.set(names.labels, "a string")

    async def main() -> None:
        async with stream(url, names):
            pass

    with pytest.raises(BadInput, match=f"{names.labels} is a string"):
        run(main())


@pytest.mark.slow
def test_on_a_cluster_the_keys_need_one_hash_tag(tmp_path: Path) -> None:
    async def main(url: str) -> None:
        with pytest.raises(BadInput, match="hash tag"):
            async with stream(url, Names("a", "g", "me", "b", "c")):
                pass
        async with stream(url, Names("{x}a", "g", "me", "{x}b", "{x}c")) as mine:
            with Redis.from_url(url) as redis:
                redis.xadd("{x}a", {"event": "1"})
                await mine.settle([labelled(entry) for entry in await mine.new(1)])
                assert redis.xlen("{x}b") == 1

    with cluster(tmp_path, server_binary()) as url:
        run(main(url))
