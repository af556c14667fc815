"""What the store sends its commands through: to one server a `Pipe`, to several a `Routed` client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from redis import asyncio as aioredis

from service.state.pipelined_connection import Command


class Line(Protocol):
    """A way to wherever the keys of a command are. What is sent must bear to be sent twice."""

    async def call(self, *command: bytes | str | int) -> Any:
        """The answer to one command.

        Raises:
            RedisError: the server cannot be reached, does not answer in time, or answers with an error.
        """
        ...

    async def calls(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to several commands that are sent at once; an error among them is an exception there.

        Raises:
            RedisError: a server cannot be reached, or does not answer in time.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Routed:
    """A client that finds its servers by itself, as a `Line`."""

    def __init__(self, client: aioredis.Redis) -> None:
        self._client = client

    async def call(self, *command: bytes | str | int) -> Any:
        return await self._client.execute_command(*command)  # type: ignore[no-untyped-call]  # the client's own

    async def calls(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    async def close(self) -> None:
        await self._client.aclose()
