"""What a user and an event cost the embedded store.

Some users go through the service's own store, which shows what one event more costs. A million would take it
hours, so they are written as it would leave them: the same keys, the same bytes (which is looked at), the
same time to live. Claims on event ids are made by the store's own script.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from redis import Redis

from loadtests.machine import cpu_ms, rss_mib
from models.schema import FeedbackEvent
from service.state import EmbeddedServer, RedisStore
from service.state.codec import encode_sequence
from service.state.keys import SEQUENCE_TTL_S, SHARDS, Keys
from service.state.scripts import CLAIMS

SEED: Final = 21
NOW_MS: Final = 1_651_330_969_569
LENGTHS: Final = (50, 100)
"""Exposures of a user: half of what is kept by default, and all of it."""

MOST_BYTES: Final = 4_400_000_000
"""The server takes no more than this."""

SLOWEST_S: Final = 120.0
"""For one command: emptying gigabytes takes the server a while."""

TOGETHER: Final = 500
KNOWN: Final = 20
"""Users that go through the store itself."""
ONE_BY_ONE: Final = 50
"""Events that each of them then gets, one a write."""
ALONE: Final = 5000
"""Claims that are made one at a time."""
CLAIMS_A_USER: Final = 2
"""Claims that are made, for each user of the bulk: enough for full hashes."""

Figures = dict[str, Any]


async def measured(folder: Path, users: int) -> Figures:
    """Start a store of our own, fill it, and read its own figures.

    Raises:
        StoreUnavailable, BadInput: it cannot be started.
    """
    with (
        EmbeddedServer(folder / "store", max_memory=MOST_BYTES) as server,
        Redis.from_url(server.url, socket_timeout=SLOWEST_S) as client,
    ):
        found = await _through_the_store(server, client)
        client.config_set("appendonly", "no")  # the bulk is of memory; its file would be gigabytes
        found["users"] = users
        found["sequences"] = [_sequences(client, server.pid, users, length) for length in LENGTHS]
        found["claims"] = _claims(client, server.pid, users * CLAIMS_A_USER)
        return found


async def _through_the_store(server: EmbeddedServer, client: Redis) -> Figures:
    """What one event and one read cost a user whose sequence is full."""
    rng = random.Random(SEED)
    store = RedisStore.open(server.url, timeout_s=10)
    keys = Keys()
    length = LENGTHS[-1]
    events = {f"u{u:09d}": _events(rng, f"u{u:09d}", length + ONE_BY_ONE) for u in range(KNOWN)}
    try:
        for user, mine in events.items():
            await store.record(user, mine[:length])
            if client.get(keys.sequence(user)) != encode_sequence(mine[:length]):
                raise AssertionError("the store keeps other bytes than the bulk would write")
        written, cpu = _appended(client), cpu_ms(server.pid)
        for i in range(length, length + ONE_BY_ONE):
            for user, mine in events.items():
                await store.record(user, mine[i : i + 1])
        count = KNOWN * ONE_BY_ONE
        figures: Figures = {
            "write_1_event_server_cpu_ms": round((cpu_ms(server.pid) - cpu) / count, 4),
            "write_1_event_aof_bytes": round((_appended(client) - written) / count),
        }
        cpu = cpu_ms(server.pid)
        for _ in range(ONE_BY_ONE):
            for user in events:
                await store.read(user)
        figures["read_server_cpu_ms"] = round((cpu_ms(server.pid) - cpu) / count, 4)
        left = [_usage(client, keys.user(user)[1]) for user in events]
        figures["left_the_sequence_bytes_an_event"] = round(sum(left) / count, 1)
        return figures
    finally:
        await store.close()


def _sequences(client: Redis, pid: int | None, users: int, length: int) -> Figures:
    """Users with so many exposures each."""
    rng = random.Random(SEED)
    pool = [encode_sequence(_events(rng, f"u{u:09d}", length)) for u in range(TOGETHER)]
    keys = Keys()
    _empty(client)
    before = _used(client)
    for part in _parts(users):
        pipeline = client.pipeline(transaction=False)
        for u in part:
            pipeline.set(keys.sequence(f"u{u:09d}"), pool[u % TOGETHER], px=round(SEQUENCE_TTL_S * 1000))
        pipeline.execute()
        _tell(f"users with {length} events", part.stop, users)
    used = _used(client) - before
    if client.dbsize() != users:
        raise AssertionError(f"{users} users were written, {client.dbsize()} are there")
    return {
        "events": length,
        "packed_bytes": round(sum(map(len, pool)) / len(pool)),
        "bytes_a_user": round(used / users),
        "users_a_gib": int(2**30 / (used / users)),
        "used_mib": round(used / 2**20, 1),
        "resident_mib": None if pid is None else rss_mib(pid),
    }


def _claims(client: Redis, pid: int | None, count: int) -> Figures:
    """Event ids that are known: 8 bytes of digest to 4 bytes of user each, in `SHARDS` hashes."""
    keys, rng = Keys(), random.Random(SEED)
    _empty(client)
    client.script_load(CLAIMS.text)
    before = _used(client)
    for n, part in enumerate(_parts(count)):
        raw = rng.randbytes(12 * len(part))
        client.evalsha(CLAIMS.sha, 2, *keys.claims(n % SHARDS), "claim", 86_400_000, "", raw)
        _tell("claims", part.stop, count)
    used, cpu = _used(client) - before, cpu_ms(pid)
    for n in range(ALONE):
        client.evalsha(CLAIMS.sha, 2, *keys.claims(n % SHARDS), "claim", 86_400_000, "", rng.randbytes(12))
    return {
        "claims": count,
        "hashes": SHARDS,
        "bytes_an_event": round(used / count, 1),
        "claim_1_event_server_cpu_ms": round((cpu_ms(pid) - cpu) / ALONE, 4),
    }


def _events(rng: random.Random, user: str, count: int) -> list[FeedbackEvent]:
    """Ids as platforms have them: numbers of 8 bytes' worth, as text."""
    return [
        FeedbackEvent(
            event_id=str(rng.randrange(10**14, 10**15)),
            user_id=user,
            video_id=str(rng.randrange(10**9, 10**10)),
            timestamp_ms=NOW_MS + i * 60_000,
            watch_time_s=round(rng.uniform(0, 60), 1),
            duration_s=round(rng.uniform(5, 120), 1),
            like=rng.random() < 0.1,
        )
        for i in range(count)
    ]


def _parts(count: int) -> Iterator[range]:
    for begin in range(0, count, TOGETHER):
        yield range(begin, min(begin + TOGETHER, count))


def _empty(client: Redis) -> None:
    """And the memory is given back when it returns; otherwise the server does that beside what follows."""
    client.execute_command("FLUSHALL SYNC")  # type: ignore[no-untyped-call]


def _used(client: Redis) -> int:
    return int(client.info("memory")["used_memory"])


def _appended(client: Redis) -> int:
    return int(client.info("persistence")["aof_current_size"])


def _usage(client: Redis, key: str) -> int:
    return int(client.memory_usage(key, samples=0) or 0)


def _tell(what: str, done: int, of: int) -> None:
    if done == of or done % 100_000 == 0:
        print(f"memory: {what}: {done:,} of {of:,}", file=sys.stderr, flush=True)
