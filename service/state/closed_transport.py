"""Connections of redis-py that break, and so are opened again, where uvloop has closed their transport.

When a server resets an idle connection, the reader holds the error and not the end of the stream, so redis-py
(8.1.0) takes the connection for a good one. asyncio answers the next write with an `OSError`, which redis-py
handles; uvloop raises `RuntimeError`, which it does not.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

from redis import asyncio as aioredis
from redis.exceptions import ConnectionError as NotConnected

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


def closed_is_broken(pool: Pool) -> Pool:
    """Return the pool, its future connections such that a closed transport is a broken connection."""
    kind = pool.connection_class
    pool.connection_class = type(kind.__name__, (_ClosedIsBroken, kind), {})
    return pool
