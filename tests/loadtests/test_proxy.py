"""The proxy that breaks connections, in front of a real Valkey."""

from __future__ import annotations

from collections.abc import Iterator
from socket import create_connection

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, TimeoutError
from redis.retry import Retry

from loadtests.faults.proxy import FaultProxy
from tests.service.stores import embedded


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with embedded(tmp_path_factory.mktemp("valkey")) as url:
        yield url.removeprefix("unix://").partition("?")[0]


@pytest.fixture
def proxy(socket: str) -> Iterator[FaultProxy]:
    with FaultProxy(socket) as running:
        yield running


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[Redis]:
    with Redis(port=proxy.port, socket_timeout=0.3, retry=Retry(NoBackoff(), 0)) as redis:
        yield redis


def test_it_forwards(client: Redis) -> None:
    client.set("k", b"x" * 200_000)
    assert client.get("k") == b"x" * 200_000


def test_a_half_open_connection_answers_nothing_until_it_is_healed(proxy: FaultProxy, client: Redis) -> None:
    assert client.ping()
    proxy.half_open()
    with pytest.raises(TimeoutError):
        client.ping()
    proxy.heal()
    assert client.ping()


def test_a_connection_that_lost_bytes_says_nothing_more_and_a_new_one_does(proxy: FaultProxy) -> None:
    """Or the answer to a later command would be taken for that of the lost one."""
    with create_connection(("127.0.0.1", proxy.port), timeout=0.3) as torn:
        torn.sendall(b"PING\r\n")
        assert torn.recv(100) == b"+PONG\r\n"
        proxy.half_open()
        torn.sendall(b"ECHO first\r\n")
        with pytest.raises(OSError, match="timed out"):
            torn.recv(100)
        proxy.heal()
        torn.sendall(b"ECHO second\r\n")
        with pytest.raises(OSError, match="timed out"):
            torn.recv(100)
    with create_connection(("127.0.0.1", proxy.port), timeout=5) as fresh:
        fresh.sendall(b"PING\r\n")
        assert fresh.recv(100) == b"+PONG\r\n"


def test_a_cut_connection_is_noticed_and_a_new_one_works(proxy: FaultProxy, client: Redis) -> None:
    before = client.client_id()
    proxy.cut()
    assert client.client_id() != before  # the client has seen that it was cut, and come again


def test_refused_means_no_listener_and_the_port_is_the_same_afterwards(
    proxy: FaultProxy, client: Redis
) -> None:
    assert client.ping()
    proxy.refuse()
    with pytest.raises(ConnectionError):
        client.ping()
    proxy.heal()
    assert client.ping()


@pytest.mark.parametrize("fault", ["delay", "trickle"])
def test_slow_answers_run_into_the_clients_time_out(proxy: FaultProxy, client: Redis, fault: str) -> None:
    if fault == "delay":
        proxy.delay(1.0)
    else:
        proxy.trickle(2.0)
    with pytest.raises(TimeoutError):
        client.ping()
    proxy.heal()
    assert client.ping()
