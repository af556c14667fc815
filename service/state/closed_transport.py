"""Connections of redis-py that mend two slips of it (8.1.0) with transports.

When a server resets an idle connection, the reader holds the error and not the end of the stream, so redis-py
takes the connection for a good one. asyncio answers the next write with an `OSError`, which redis-py handles;
uvloop raises `RuntimeError`, which it does not. And where a server behind TLS does not answer a goodbye in
time, redis-py lets go of the transport and leaves it open.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from redis import asyncio as aioredis
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import TimeoutError as NotInTime

Pool = TypeVar("Pool", bound=aioredis.ConnectionPool)

if TYPE_CHECKING:
    Base = aioredis.Connection
else:
    Base = object


class _ClosedIsBroken(Base):
    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as e:
            raise NotConnected(str(e)) from e

    async def disconnect(self, *args: Any, **options: Any) -> None:
        writer = self._writer
        try:
            await super().disconnect(*args, **options)
        except NotInTime:
            if writer is not None:
                writer.transport.abort()


def closed_is_broken(pool: Pool) -> Pool:
    """Return the pool, its future connections such that a closed transport is a broken connection."""
    kind = pool.connection_class
    pool.connection_class = type(kind.__name__, (_ClosedIsBroken, kind), {})
    return pool
