"""After DELETE /users/{id} the store holds nothing that came from that user, in keys or in values."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b, sha1
from pathlib import Path

import pytest
from redis import Redis

from tests.service.running import NOW_MS, event, running
from tests.service.stores import debian, embedded

USER = "mallory-4711"
BESIDE = "bystander-0815"


def traces(user: str, events: list[str]) -> list[bytes]:
    """Every form in which the store writes a user or one of their events."""
    digests = [sha1(e.encode()).digest()[:8] for e in events]
    return [
        user.encode(),
        blake2b(user.encode(), digest_size=4).digest(),
        *(e.encode() for e in events),
        *digests,
    ]


def everything(url: str) -> bytes:
    """All keys and all values of the server, one after the other."""
    found: list[bytes] = []
    with Redis.from_url(url) as client:
        for key in client.scan_iter(count=1000):
            found.append(key)
            match client.type(key):
                case b"string":
                    found.append(client.get(key) or b"")
                case b"hash":
                    found += [part for pair in client.hgetall(key).items() for part in pair]
                case b"zset":
                    found += client.zrange(key, 0, -1)
                case other:
                    raise AssertionError(f"{key!r} is a {other!r}, which this test does not read")
    return b"\0".join(found)


@pytest.fixture(params=[embedded, debian], ids=["valkey", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with request.param(tmp_path / "store") as started:
        yield started


@pytest.mark.slow
def test_nothing_of_a_forgotten_user_is_left_and_nothing_of_another_is_gone(
    url: str, bundles: Path, tmp_path: Path
) -> None:
    env = {"REELRANK_STORE": url, "REELRANK_SEQUENCE_LENGTH": "10"}
    ids = {user: [f"{user}-event-{i}" for i in range(40)] for user in (USER, BESIDE)}
    with running(bundles, tmp_path / "data", **env) as service, service.client() as client:
        for user, event_ids in ids.items():
            # Four times as many as a sequence holds: most are only remembered.
            events = [
                event(e, user, timestamp_ms=NOW_MS + i, video_id=f"v{i}") for i, e in enumerate(event_ids)
            ]
            assert client.post("/label", json=events).json()["accepted"] == 40
            merged = events[3] | {"like": True, "session_id": f"{user}-session"}
            assert client.post("/label", json=merged).json()["merged"] == 1
            profile = {"user_id": user, "profile": {"age": 30, "city": "1"}}
            past = {"user_id": user, "history": [{"video_id": f"{user}-before", "like": True}]}
            client.put("/users", json=[profile, past]).raise_for_status()
            client.post(
                "/rerank", json={"user_id": user, "candidates": [{"video_id": "v1"}]}
            ).raise_for_status()
        before = everything(url)
        assert not [trace for trace in traces(USER, ids[USER]) if trace not in before]
        assert client.delete(f"/users/{USER}").json()["known"] is True
        after = everything(url)
    assert not [
        trace
        for trace in [*traces(USER, ids[USER]), f"{USER}-session".encode(), f"{USER}-before".encode()]
        if trace in after
    ]
    assert not [trace for trace in traces(BESIDE, ids[BESIDE]) if trace not in after]
