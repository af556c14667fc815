"""Two megabytes of anything cost a bounded amount of work, and are answered in a few kilobytes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.service.exchanges import JSON, is_problem
from tests.service.memory_store import MemoryStore
from tests.service.running import served

pytestmark = pytest.mark.slow

SIZE = 2 * 1024 * 1024

CPU_S = 3.0
"""Of this process, client and all: twenty times what the worst one takes, a third of what one once took."""


def full_of(unit: bytes, before: bytes = b"[", after: bytes = b"]") -> bytes:
    count = (SIZE - len(before) - len(after)) // (len(unit) + 1)
    return before + b",".join([unit] * count) + after


SLATE = b'{"user_id":"u","candidates":'
KEYS = b",".join(b'"%06d":1' % i for i in range(180_000))
BODIES = {
    "arrays never closed": b"[" * SIZE,
    "arrays in arrays": b"[" * (SIZE // 2) + b"]" * (SIZE // 2),
    "objects in objects": b'{"a":' * (SIZE // 5),
    "digits": b"9" * SIZE,
    "decimals": b"0." + b"9" * (SIZE - 2),
    "exponent": b"1e" + b"9" * (SIZE - 2),
    "spaces": b" " * SIZE,
    "one string": b'"' + b"a" * (SIZE - 2) + b'"',
    "escapes": b'"' + b"\\u0000" * (SIZE // 6 - 1) + b'"',
    "keys": b"{" + KEYS + b"}",
    "the same key": full_of(b'"event_id":"e"', b"{", b"}"),
    "a long key": b'{"' + b"a" * (SIZE - 100) + b'":1}',
    "a long key beside": b'{"events":[],"' + b"\\ud800" * (SIZE // 6 - 20) + b'":1}',
    "objects": full_of(b"{}"),
    "arrays": full_of(b"[]"),
    "ones": full_of(b"1"),
    "large integers": full_of(b"99999999999999999999"),
    "large floats": full_of(b"1.7976931348623157e308"),
    "candidates": full_of(b'{"video_id":"v"}', SLATE + b"[", b"]}"),
    "weights": SLATE + b'[{"video_id":"v"}],"weights":{' + KEYS[: SIZE - 200].rpartition(b",")[0] + b"}}",
    "a long id": SLATE + b'[{"video_id":"' + b"a" * (SIZE - 200) + b'"}]}',
}


@pytest.fixture(scope="module")
def client(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    with served(bundles, MemoryStore(), tmp_path_factory.mktemp("data")) as http:
        yield http


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/label"), ("POST", "/rerank"), ("PUT", "/videos"), ("PUT", "/users")]
)
def test_a_hostile_body_is_refused_at_a_bounded_price(
    client: httpx2.Client, method: str, path: str, name: str
) -> None:
    body = BODIES[name]
    assert len(body) <= SIZE
    begun = time.process_time()
    reply = client.request(method, path, content=body, headers=JSON)
    spent_s = time.process_time() - begun
    assert is_problem(reply, 400) or is_problem(reply, 422)
    assert spent_s < CPU_S
    assert len(reply.content) < 20_000


def test_more_events_than_allowed_are_counted_before_they_are_looked_at(client: httpx2.Client) -> None:
    reply = client.post("/label", content=full_of(b"{}")[: 1 + 3 * 20_000] + b"{}]", headers=JSON)
    assert is_problem(reply, 422)
    assert "At most 10000 events" in reply.json()["detail"]
