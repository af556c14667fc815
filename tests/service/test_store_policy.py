"""A store whose configuration may lose events: what is noticed of it, at the start and while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from redis import Redis

from tests.service.exchanges import metric
from tests.service.running import eventually, served
from tests.service.stores import debian, embedded, patient_store

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

Watching = Callable[[str], AbstractContextManager[tuple[httpx2.Client, Callable[[], list[str]]]]]


@pytest.fixture(scope="module", params=["embedded", "debian"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of a server of these tests' own."""
    start = {"embedded": embedded, "debian": debian}[request.param]
    with start(tmp_path_factory.mktemp("server")) as url, Redis.from_url(url) as client:
        yield client


def url_of(server: Any) -> str:
    return f"unix://{server.connection_pool.connection_kwargs['path']}"


def degraded(client: httpx2.Client) -> list[str]:
    return list(client.get("/health/ready").json()["degraded"])


@pytest.fixture
def watching(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Watching:
    """A service on a store whose configuration it looks at all the time, and its log so far."""
    monkeypatch.setattr("service.app.POLICY_S", 0.05)

    @contextmanager
    def start(url: str) -> Iterator[tuple[httpx2.Client, Callable[[], list[str]]]]:
        with served(bundles, patient_store(url), tmp_path) as client:
            yield client, lambda: caplog.messages

    return start


EVICTING = ({"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}, "eviction", "set noeviction")


@pytest.mark.parametrize(
    ("options", "risk", "advice"),
    [
        EVICTING,
        ({**EVICTING[0], "maxmemory-policy": "volatile-ttl"}, *EVICTING[1:]),
        ({"appendonly": "no"}, "persistence", "set appendonly yes"),
    ],
    ids=["evicts any", "evicts those with a TTL", "not on the disk"],
)
def test_a_configuration_that_may_lose_events_is_noticed_while_it_lasts(
    server: Any, watching: Watching, options: dict[str, str], risk: str, advice: str
) -> None:
    before = {name: server.config_get(name)[name] for name in options}
    with watching(url_of(server)) as (client, log):
        series = f'reelrank_store_policy_risk{{risk="{risk}"}}'
        assert (metric(client, series), degraded(client)) == (0, [])
        for name, value in options.items():
            server.config_set(name, value)
        try:
            assert eventually(lambda: degraded(client) == ["store_policy"])
            assert metric(client, series) == 1
            assert [advice in line for line in log() if "may lose events" in line] == [True]
        finally:
            for name, value in before.items():
                server.config_set(name, value)
        assert eventually(lambda: degraded(client) == [])
        assert metric(client, series) == 0


def test_a_replica_is_noticed_before_a_write(server: Any, watching: Watching) -> None:
    server.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        with watching(url_of(server)) as (client, _):
            assert degraded(client) == ["store_policy"]
            assert metric(client, 'reelrank_store_policy_risk{risk="replica"}') == 1
    finally:
        server.execute_command("REPLICAOF", "NO", "ONE")


def test_a_configuration_that_may_not_be_asked_for_is_said_to_be_unknown(
    server: Any, watching: Watching
) -> None:
    server.execute_command("ACL", "SETUSER", "curious", "on", ">word", "~*", "+@all", "-info")
    with watching(url_of(server).replace("unix://", "unix://curious:word@")) as (client, log):
        assert degraded(client) == []
        assert metric(client, 'reelrank_store_policy_risk{risk="unchecked"}') == 1
        assert ["could not be checked" in line for line in log() if "may lose events" in line] == [True]
