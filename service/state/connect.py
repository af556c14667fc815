"""The client of a store that is more than one server."""

from __future__ import annotations

from typing import Any, Final

from redis import asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from models.errors import BadInput
from service.state.cluster import ClusterClient
from service.state.multi_node_url import Host, Several
from service.state.replicated import ReplicatedClient
from service.state.sentinel import PrimaryClient

CONNECTIONS: Final = 64
"""Of this process, to each server."""


def connect(several: Several, *, timeout_s: float, connect_timeout_s: float, repeat: bool) -> aioredis.Redis:
    """Connects at first use.

    Args:
        several: where.
        timeout_s: to answer one command, and to wait for a free connection.
        connect_timeout_s: to connect to a server.
        repeat: whether a command is sent a second time that was not answered, and so may have been done.

    Raises:
        BadInput: the URL has an option that no connection has.
    """
    limits: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": connect_timeout_s,
        "retry": Retry(NoBackoff(), int(repeat)),
        "protocol": 2,  # nothing here needs RESP3, and some proxies only have this
        "driver_info": None,  # saves two commands a connection
    }
    connection = aioredis.SSLConnection if several.tls else aioredis.Connection
    try:
        connection(**{**several.options, **limits})
    except TypeError as e:  # it names the option
        raise BadInput(f"The store's URL ({several.where}) has an option that there is not: {e}.") from None
    pool: dict[str, Any] = {"max_connections": CONNECTIONS, "timeout": timeout_s}
    if several.kind == "sentinel":
        return PrimaryClient(several, limits, pool)

    def node(host: Host) -> ReplicatedClient:
        options = {**several.options, **limits, **pool, "host": host[0], "port": host[1]}
        return ReplicatedClient(
            aioredis.BlockingConnectionPool(connection_class=connection, **options), several.replicas
        )

    return ClusterClient(several.hosts, node, repeat=repeat)
