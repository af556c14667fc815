"""A store whose server refuses, freezes or restarts, and one whose URL is none."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from models.errors import BadInput, StoreUnavailable
from service.state import EmbeddedServer, RedisStore
from tests.service.stores import event, patient_store, redis_store

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.xdist_group("processes")]


@pytest.mark.parametrize(
    "address",
    ["redis://user:secret@127.0.0.1:1/0", "unix://user:secret@/nowhere/valkey.sock?password=secret"],
)
async def test_a_refusing_server_is_named_without_its_password(address: str) -> None:
    async with redis_store(address, timeout_s=0.25) as store:
        for call in (store.ping, lambda: store.read("alice"), lambda: store.record("alice", [event()])):
            with pytest.raises(StoreUnavailable) as caught:
                await call()
            assert "secret" not in str(caught.value)
            assert "127.0.0.1:1" in str(caught.value) or "/nowhere/valkey.sock" in str(caught.value)


@pytest.mark.parametrize(
    "address",
    ["", "secret", "http://secret", "redis://:se/cret@host", "redis://:secret@host:x", "redis://[secret"],
)
def test_a_url_that_is_none_is_refused_without_its_password(address: str) -> None:
    with pytest.raises(BadInput) as caught:
        RedisStore.open(address)
    assert "cret" not in str(caught.value)
    assert "secret" not in repr(caught.value.__cause__)


async def test_a_frozen_server_is_given_up_and_taken_up_again(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path) as server:
        assert server.pid is not None
        async with redis_store(server.url, timeout_s=1, read_timeout_s=0.5) as store:
            await store.record("alice", [event("e1")])
            os.kill(server.pid, signal.SIGSTOP)
            try:
                with pytest.raises(StoreUnavailable):
                    await store.read("alice")
                with pytest.raises(StoreUnavailable):
                    await store.record("alice", [event("e2", after_ms=1)])
            finally:
                os.kill(server.pid, signal.SIGCONT)
        async with redis_store(server.url, prefix=store._keys.catalogue[0].split(":")[0]) as again:
            # The server may have done what it was asked before it froze: a repeat is safe either way.
            assert (await again.record("alice", [event("e2", after_ms=1)]))[0].kind in (
                "accepted",
                "duplicate",
            )
            state = await again.read("alice")
    assert state is not None
    assert [e.event_id for e in state.events] == ["e1", "e2"]


async def test_a_restarted_server_is_found_again_by_the_same_store(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    with server:
        store = patient_store(server.url)
        await store.record("alice", [event()])
    with pytest.raises(StoreUnavailable):
        await store.read("alice")
    with server:
        state = await store.read("alice")
        assert state is not None
        assert state.events == [event()]
        await store.close()
