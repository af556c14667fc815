"""Connections to a store: to one server, or a client of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from redis import asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from models.errors import BadInput
from service.state.cluster import ClusterClient
from service.state.multi_node_url import Host, MultiNodeUrl
from service.state.pipelined_connection import Command, PipelinedConnection
from service.state.replicated import ReplicatedClient
from service.state.sentinel import PrimaryClient

Connection = PipelinedConnection | ClusterClient | ReplicatedClient
"""To the server that has the keys of a command: one server's, or a client that finds it among several."""

CONNECTIONS: Final = 64
"""Of this process, to each server."""


def connect(
    nodes: MultiNodeUrl, *, timeout_s: float, connect_timeout_s: float, repeat: bool
) -> ClusterClient | ReplicatedClient:
    """Return a client, which connects at first use.

    Args:
        nodes: the cluster or the sentinels.
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
    connection = aioredis.SSLConnection if nodes.tls else aioredis.Connection
    try:
        connection(**{**nodes.options, **limits})
    except TypeError as e:  # it names the option
        raise BadInput(f"The store's URL ({nodes.display_url}) has an unknown option: {e}.") from None
    pool: dict[str, Any] = {"max_connections": CONNECTIONS, "timeout": timeout_s}
    if nodes.kind == "sentinel":
        return PrimaryClient(nodes, limits, pool)

    def node(host: Host) -> ReplicatedClient:
        options = {**nodes.options, **limits, **pool, "host": host[0], "port": host[1]}
        return ReplicatedClient(
            aioredis.BlockingConnectionPool(connection_class=connection, **options), nodes.replicas
        )

    return ClusterClient(nodes.hosts, node, repeat=repeat)


async def send_all(connection: Connection, commands: Sequence[Command]) -> list[Any]:
    """Send commands at once and return their replies.

    Raises:
        RedisError: the first error among them.
    """
    answers = await connection.send_many(commands) if commands else []
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers
