"""What versions 0.1.0 and 0.2.0 left in a store is read, and written anew by the next write that needs it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import AsyncIterator, Sequence

import pytest
from redis.asyncio import Redis

from models.errors import StoreUnavailable
from models.schema import FLAGS, FeedbackEvent, Video
from service.state import RedisStore, codec
from tests.service.stores import event, redis_store

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(embedded_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(embedded_url) as client:
        await client.flushall()
        yield client


@pytest.fixture
async def store(embedded_url: str, client: Redis) -> AsyncIterator[RedisStore]:
    async with redis_store(embedded_url, prefix="rr") as store:
        yield store


def old_id(text: str) -> bytes:
    if len(text) <= 15 and text.isascii() and text.isdigit() and str(int(text)) == text:
        size = max(1, (int(text).bit_length() + 7) // 8)
        return bytes((239 + size,)) + int(text).to_bytes(size)
    raw = text.encode()
    return (bytes((len(raw) - 1,)) if len(raw) <= 240 else bytes((255, len(raw) - 1))) + raw


def old_optional(values: Sequence[str | None]) -> tuple[int, bytes]:
    mask = sum(1 << bit for bit, value in enumerate(values) if value is not None)
    return mask, b"".join(old_id(value) for value in values if value is not None)


def old_record(e: FeedbackEvent) -> bytes:
    mask, context = old_optional([getattr(e, name) for name in codec.CONTEXT])
    flags = sum(getattr(e, name) << bit for bit, name in enumerate(FLAGS)) | (0x80 if mask else 0)
    head = struct.pack(">B", flags) + e.timestamp_ms.to_bytes(6)
    seconds = struct.pack(">ff", e.watch_time_s, e.duration_s or 0.0)
    return (
        head + seconds + old_id(e.event_id) + old_id(e.video_id) + (bytes((mask,)) + context if mask else b"")
    )


def old_sequence(batch: Sequence[FeedbackEvent]) -> bytes:
    head = struct.pack(">BIH", 2, len(batch), len(old_record(batch[-1])))
    return head + b"".join(map(old_record, batch))


def old_video(video: Video) -> bytes:
    mask, packed = old_optional((video.author_id, video.tag))
    return struct.pack(">Bf", mask, video.duration_s or 0.0) + packed


def old_field(event_id: str) -> bytes:
    return bytes((hashlib.sha1(old_id(event_id)).digest()[0] % 64,))


BEFORE = [
    event("e0", after_ms=0, watch_time_s=48.4, duration_s=None),
    event("007", after_ms=1, video_id="300", tab="t", tag="x" * 250, like=True, hate=True),
    event(
        "123456789012345", after_ms=2, video_id="7", watch_time_s=604_800.0, duration_s=0.001, author_id="0"
    ),
    event("é" * 128, after_ms=3, video_id="v", session_id="s", device="d"),
]


async def sequence_of(store: RedisStore) -> list[FeedbackEvent]:
    state = await store.read("alice")
    assert state is not None
    return state.events


async def test_an_old_sequence_is_read_and_written_anew(store: RedisStore, client: Redis) -> None:
    await client.set("rr:s:{alice}", old_sequence(BEFORE), px=10**9)
    assert await sequence_of(store) == BEFORE
    history = await store.history("alice")
    assert history is not None
    assert history.exposures.video_id == [e.video_id for e in BEFORE]
    new = event("new", after_ms=9)
    outcomes = await store.record_many([new, event("bob", "bob"), BEFORE[1]])
    assert [o.kind for o in outcomes] == ["accepted", "accepted", "duplicate"]
    assert await client.get("rr:s:{alice}") == codec.encode_sequence([*BEFORE, new])


async def test_a_full_old_sequence_goes_on_being_trimmed(store: RedisStore, client: Redis) -> None:
    before = [event(f"e{i}", after_ms=i) for i in range(100)]
    await client.set("rr:s:{alice}", old_sequence(before))
    await put_claims(client, "alice", before)
    await store.record("alice", [event("new", after_ms=200)])
    assert await sequence_of(store) == [*before[1:], event("new", after_ms=200)]
    assert [o.kind for o in await store.record("alice", before[:1])] == ["duplicate"]


async def test_what_had_left_an_old_sequence_is_still_known(store: RedisStore, client: Redis) -> None:
    await client.set("rr:s:{alice}", old_sequence([event("in", after_ms=9)]))
    pages: dict[bytes, bytes] = {}
    for e in BEFORE:
        pages[old_field(e.event_id)] = pages.get(old_field(e.event_id), b"") + old_record(e)
    await put_pages(client, pages)
    await put_claims(client, "alice", BEFORE)
    await assert_before_is_known(store, client)


async def test_what_had_left_a_sequence_of_0_2_is_still_known(store: RedisStore, client: Redis) -> None:
    await client.set("rr:s:{alice}", codec.encode_sequence([event("in", after_ms=9)]))
    await put_pages(client, {bytes((i,)): codec.encode_events([e]) for i, e in enumerate(BEFORE)})
    await put_claims(client, "alice", BEFORE)
    assert [o.kind for o in await store.record("alice", [event("new", after_ms=10)])] == ["accepted"]
    await assert_before_is_known(store, client)


async def put_pages(client: Redis, pages: dict[bytes, bytes]) -> None:
    for key, some in (("rr:d", list(pages.items())[:2]), ("rr:e", list(pages.items())[2:])):
        await client.hset(f"{key}:{{alice}}", mapping={b"at": bytes(12), **dict(some)})


async def put_claims(client: Redis, user_id: str, events: Sequence[FeedbackEvent]) -> None:
    user = hashlib.blake2b(user_id.encode(), digest_size=4).digest()
    for i, e in enumerate(events):
        digest = hashlib.blake2b(e.event_id.encode(), digest_size=8).digest()
        key = f"rr:{'co'[i % 2]}:{{{digest[0] % 64:02d}}}"
        await client.hset(key, mapping={b"at": bytes(12), digest: user})
        await client.pexpire(key, 10**6)


async def assert_before_is_known(store: RedisStore, client: Redis) -> None:
    stolen = [event(e.event_id, "bob", video_id="v") for e in BEFORE]
    assert {o.kind for o in await store.record("bob", stolen)} == {"conflict"}
    wrong = event("e0", video_id="other")
    outcomes = await store.record("alice", [*BEFORE, wrong])
    assert [o.kind for o in outcomes] == ["duplicate"] * 4 + ["conflict"]
    assert [o.event for o in outcomes[:4]] == BEFORE
    fields = [len(field) for key in ("rr:d:{alice}", "rr:e:{alice}") for field in await client.hkeys(key)]
    assert fields == [8] * len(BEFORE)
    assert {o.kind for o in await store.record("bob", stolen)} == {"conflict"}


async def test_an_old_user_is_forgotten_whole(store: RedisStore, client: Redis) -> None:
    await client.set("rr:s:{alice}", old_sequence(BEFORE[2:]))
    await put_pages(client, {old_field(e.event_id): old_record(e) for e in BEFORE[:2]})
    await put_claims(client, "alice", BEFORE)
    await put_claims(client, "bob", [event("bob", "bob")])
    assert await store.forget("alice")
    assert [key async for key in client.scan_iter() if b"alice" in key] == []
    owners = [v async for key in client.scan_iter("rr:[co]:*") for v in await client.hvals(key)]
    assert set(owners) == {bytes(12), hashlib.blake2b(b"bob", digest_size=4).digest()}


@pytest.mark.parametrize("cut", [1, 7, 8, 20, 23, 25, 40, -1])
async def test_a_damaged_old_sequence_is_refused_and_left_alone(
    store: RedisStore, client: Redis, cut: int
) -> None:
    damaged = old_sequence(BEFORE)[:cut] + (b"\0" if cut in (1, 7) else b"")
    await client.set("rr:s:{alice}", damaged)
    with pytest.raises(StoreUnavailable, match="cannot read"):
        await store.read("alice")
    assert [o.kind for o in await store.record("alice", [event()])] == ["unreadable"]
    assert await client.get("rr:s:{alice}") == damaged


async def test_old_catalogue_entries_are_read(store: RedisStore, client: Redis) -> None:
    videos = [
        Video(video_id="a"),
        Video(video_id="b", duration_s=24.1, author_id="7", tag="t"),
        Video(video_id="c", tag="é" * 128),
    ]
    await store.put_videos(videos)
    for video in videos:
        await client.hset("rr:v:{videos}", video.video_id, old_video(video))
    assert (await store.videos_since(""))[1] == videos
    await client.hset("rr:v:{videos}", "b", old_video(videos[1])[:6])
    with pytest.raises(StoreUnavailable, match="cannot read"):
        await store.videos_since("")
