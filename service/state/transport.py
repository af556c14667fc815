"""Transports of commands: a `PipelinedConnection` to one server, a `RedisPyTransport` to several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from service.state.cluster import ClusterClient
from service.state.pipelined_connection import Command
from service.state.replicated import ReplicatedClient


class CommandTransport(Protocol):
    """A way to the server that has the keys of a command. Every command must bear to be sent twice."""

    async def call(self, *command: bytes | str | int) -> Any:
        """Send one command and return its reply.

        Raises:
            RedisError: the server cannot be reached, does not answer in time, or answers with an error.
        """
        ...

    async def calls(self, commands: Sequence[Command]) -> list[Any]:
        """Send several commands at once and return their replies; an error reply is an exception in the list.

        Raises:
            RedisError: a server cannot be reached, or does not answer in time.
        """
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class RedisPyTransport:
    """A client of `connect`, which finds its servers by itself."""

    def __init__(self, client: ClusterClient | ReplicatedClient) -> None:
        self._client = client

    async def call(self, *command: bytes | str | int) -> Any:
        return await self._client.execute_command(*command)

    async def calls(self, commands: Sequence[Command]) -> list[Any]:
        return await self._client.send_many(commands)

    async def close(self) -> None:
        await self._client.aclose()
