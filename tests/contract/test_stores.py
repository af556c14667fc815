"""The stores, held to the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from service.state import RedisStore
from service.state.embedded import server_binary
from tests.contract.store import StoreContract
from tests.service import clusters
from tests.service.memory_store import MemoryStore
from tests.service.stores import Clock, cluster, memory_store, small_redis_store

CLUSTERS = pytest.mark.xdist_group("clusters")
"""One after the other: each node is a process."""


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with cluster(Path(tmp_path_factory.mktemp("cluster")), server_binary()) as url:
        yield url


@pytest.fixture(scope="module")
def nodes_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with clusters.cluster(tmp_path_factory.mktemp("nodes")) as nodes:
        yield nodes.url


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self, clock: Clock) -> MemoryStore:
        return memory_store(clock)


class TestEmbeddedValkey(StoreContract):
    @pytest.fixture
    async def store(self, clock: Clock, embedded_url: str) -> AsyncIterator[RedisStore]:
        async with small_redis_store(embedded_url, clock) as store:
            yield store


class TestDebianRedis(StoreContract):
    @pytest.fixture
    async def store(self, clock: Clock, debian_url: str) -> AsyncIterator[RedisStore]:
        async with small_redis_store(debian_url, clock) as store:
            yield store


@CLUSTERS
@pytest.mark.slow
class TestCluster(StoreContract):
    @pytest.fixture
    async def store(self, clock: Clock, cluster_url: str) -> AsyncIterator[RedisStore]:
        async with small_redis_store(cluster_url, clock) as store:
            yield store


@CLUSTERS
@pytest.mark.slow
class TestClusterOfThree(StoreContract):
    @pytest.fixture
    async def store(self, clock: Clock, nodes_url: str) -> AsyncIterator[RedisStore]:
        async with small_redis_store(nodes_url, clock) as store:
            yield store
