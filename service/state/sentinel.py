"""The primary that sentinels name, whichever server that is by now."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any, Final

from redis import asyncio as aioredis
from redis.asyncio.sentinel import (
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
    SentinelManagedSSLConnection,
)
from redis.exceptions import RedisError

from service.state.closed_transport import closed_is_broken
from service.state.multi_node_url import MultiNodeUrl
from service.state.replicated import ReplicatedClient

LOOK_S: Final = 1.0
"""How often the sentinels are asked while everything seems well."""


class _Pool(SentinelConnectionPool, aioredis.BlockingConnectionPool):
    """Each new connection asks the sentinels who is the primary; a call waits for a free one."""

    async def look(self) -> None:
        """Leave a primary that has been replaced. Writes that it goes on taking are lost."""
        before = self.master_address
        with suppress(RedisError, OSError, TimeoutError):
            # The client has no types here.
            now = await self.get_master_address()  # type: ignore[no-untyped-call]
            if before not in (None, now):
                await self.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]


class PrimaryClient(ReplicatedClient):
    """The client of the primary. When that is replaced, connections to it break and new ones ask anew.

    Args:
        nodes: sentinels, and the name of the primary.
        limits: time-outs and retries of a connection, to a sentinel as to the primary.
        pool: size of the pool and the time to wait for one of its connections.
    """

    def __init__(self, nodes: MultiNodeUrl, limits: dict[str, Any], pool: dict[str, Any]) -> None:
        self._sentinels = Sentinel(  # type: ignore[no-untyped-call]  # the client has no types here
            nodes.hosts, sentinel_kwargs={**nodes.sentinel_options, **limits, "ssl": nodes.tls}
        )
        for sentinel in self._sentinels.sentinels:
            closed_is_broken(sentinel.connection_pool)
        self._pool = _Pool(  # type: ignore[no-untyped-call]  # as above
            nodes.service,
            self._sentinels,
            connection_class=SentinelManagedSSLConnection if nodes.tls else SentinelManagedConnection,
            **nodes.options,
            **limits,
            **pool,
        )
        super().__init__(self._pool, nodes.replicas)
        self._look_at = 0.0
        self._looking: asyncio.Task[None] | None = None

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if (now := time.monotonic()) >= self._look_at:
            self._look_at = now + LOOK_S
            self._looking = asyncio.create_task(self._pool.look())
        return await super().execute_command(*args, **options)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await super().aclose(close_connection_pool)
        await self._sentinels.aclose()
