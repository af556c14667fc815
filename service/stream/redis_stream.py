"""Three Redis Streams: events in, labels and dead letters out; a group of consumers shares the events.

Redis 7.0 commands only. An entry is *pending* from when a consumer was given it until it is settled, and
belongs to that consumer until another takes it over; the server counts how often it was given out.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Self, cast

from redis import asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisError, ResponseError

from models.errors import BadInput
from service.state.closed_transport import closed_is_broken
from service.state.connect import connect
from service.state.failures import unavailable
from service.state.multi_node_url import MultiNodeUrl, display_url
from service.state.scripts import SETTLE
from service.stream.source import Backlog, Entry, Output

BLOCK_MS: Final = 500
"""How long a read waits for new entries."""

TIMEOUT_S: Final = 5.0
"""For one command; longer than `BLOCK_MS`."""


@dataclass(frozen=True, slots=True)
class Names:
    """Which streams, which group, and who in it. On a cluster the keys need one hash tag: `{x}:events`."""

    stream: str
    group: str
    consumer: str
    labels: str
    dead: str


class EventStream:
    """The three streams, as one consumer of the group sees them. Every method raises `StoreUnavailable` if
    the server does not answer. Use `open`.

    Args:
        client: connections.
        names: of streams, group and consumer.
        display_url: what to call the server in messages.
        maxlen: about how many entries labels and dead letters are kept each, the newest.
    """

    def __init__(self, client: aioredis.Redis, names: Names, *, display_url: str, maxlen: int) -> None:
        self._client = client
        self._names = names
        self._display_url = display_url
        self._maxlen = maxlen

    @classmethod
    def open(cls, url: str, names: Names, *, maxlen: int) -> Self:
        """Open the streams at a URL as of a store; see `open_client`."""
        return cls(open_client(url), names, display_url=display_url(url), maxlen=maxlen)

    @property
    def name(self) -> str:
        """Of the stream of events."""
        return self._names.stream

    async def prepare(self) -> None:
        """Create stream and group if they are missing; a new group begins with the oldest event.

        Raises:
            BadInput: one of the keys is something else, or a cluster has them in several slots.
        """
        names = self._names
        with self._unavailable("make the group"):
            await check_streams(self._client, (names.stream, names.labels, names.dead))
            try:
                await self._client.xgroup_create(names.stream, names.group, id="0", mkstream=True)
            except ResponseError as e:
                if not str(e).startswith("BUSYGROUP"):  # it is there
                    raise

    async def new(self, count: int) -> list[Entry]:
        """Return at most `count` entries that no consumer was given yet; none after half a second."""
        return await self._read(">", count, block=BLOCK_MS)

    async def own(self, after: bytes) -> Entry | None:
        """Return the next entry after an id that is pending with this consumer from an earlier run."""
        return next(iter(await self._read(after, 1)), None)

    async def abandoned(self, cursor: bytes, idle_s: float) -> tuple[bytes, Entry | None, int]:
        """Take over at most one entry that has been pending with any consumer for `idle_s` or longer.

        One, because the server counts a delivery for each: an entry that kills its consumer must not
        count against those beside it.

        Returns:
            Where to go on (`0-0`: that was all), the entry, and how many were found deleted from the stream;
            these are not pending any more.
        """
        names = self._names
        with self._unavailable("take entries over"):
            cursor, entries, gone = await self._client.xautoclaim(
                names.stream, names.group, names.consumer, round(idle_s * 1000), start_id=cursor, count=1
            )
            return cursor, next((Entry(id_, fields) for id_, fields in entries), None), len(gone)

    async def deliveries(self, entry: Entry) -> int:
        """Return how often a pending entry was given out; 0 if it is settled."""
        names = self._names
        with self._unavailable("list what is pending"):
            found = await self._client.xpending_range(names.stream, names.group, entry.id, entry.id, 1)
            return int(found[0]["times_delivered"]) if found else 0

    async def settle(self, outputs: Sequence[Output]) -> list[Output]:
        """Write and acknowledge, one atomic step. Repeated, it does nothing.

        Returns:
            Those that were settled by this call; another consumer had settled the others.
        """
        names = self._names
        args: list[str | bytes | int] = [names.group, self._maxlen]
        for output in outputs:
            args += (output.entry, 2 if output.to == "labels" else 3, 2 * len(output.fields))
            for name, value in output.fields.items():
                args += (name, value)
        keys = (names.stream, names.labels, names.dead)
        with self._unavailable("keep labels"):
            now = await SETTLE.run(self._client, keys, *args)
        return [output for output, done in zip(outputs, now, strict=True) if done]

    async def backlog(self) -> Backlog:
        """Entries that the group has not settled."""
        with self._unavailable("read the backlog"):
            for group in await self._client.xinfo_groups(self._names.stream):
                if group["name"] == self._names.group.encode():
                    return Backlog(group.get("lag"), int(group["pending"]))
        return Backlog(None, 0)

    async def trim(self) -> None:
        """Remove events that every group has settled. Safe beside other consumers: what is before the oldest
        pending entry of each group, or before the last one given out, is never asked for again."""
        with self._unavailable("trim the events"):
            positions: list[bytes] = []
            for group in await self._client.xinfo_groups(self._names.stream):
                pending = await self._client.xpending(self._names.stream, group["name"])
                positions.append(pending["min"] or group["last-delivered-id"])
            if positions:
                oldest = min(positions, key=_position).decode()
                await self._client.xtrim(self._names.stream, minid=oldest, approximate=False)

    async def leave(self) -> None:
        """Remove this consumer from the group if nothing is pending with it, and close connections."""
        names = self._names
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            found = await self._client.xpending_range(names.stream, names.group, "-", "+", 1, names.consumer)
            if not found:
                await self._client.xgroup_delconsumer(names.stream, names.group, names.consumer)
        await self._client.aclose()

    async def _read(self, after: str | bytes, count: int, block: int | None = None) -> list[Entry]:
        names = self._names
        with self._unavailable("give out events"):
            reply: Any = await self._client.xreadgroup(
                names.group, names.consumer, {names.stream: after}, count=count, block=block
            )
            return [Entry(id_, fields) for _, entries in reply or () for id_, fields in entries]

    def _unavailable(self, action: str) -> AbstractContextManager[None]:
        return unavailable(f"The streams at {self._display_url}", action)


def _position(id_: bytes) -> tuple[int, int]:
    milliseconds, _, number = id_.partition(b"-")
    return int(milliseconds), int(number or 0)


def open_client(url: str) -> aioredis.Redis:
    """Open connections to streams. They connect at first use.

    Args:
        url: as of a store.

    Raises:
        BadInput: this is no such URL.
    """
    if nodes := MultiNodeUrl.parse(url):
        several: aioredis.Redis = connect(nodes, timeout_s=TIMEOUT_S, connect_timeout_s=1.0, repeat=False)
        return several
    try:
        client = aioredis.Redis.from_url(
            url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=1.0,
            # A read sent again could leave entries pending that were never seen; the caller finds them.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
            driver_info=None,
        )
    except ValueError:  # its text may hold a part of the password
        raise BadInput(
            f"The streams' URL ({display_url(url)}) cannot be used. Write redis://host:port/db, "
            "rediss://…, unix:///path or kafka://broker:9092/topic."
        ) from None
    closed_is_broken(client.connection_pool)
    return client


async def check_streams(client: aioredis.Redis, keys: Sequence[str]) -> None:
    """Refuse keys that hold anything but a stream, or that a cluster has in several slots.

    Raises:
        BadInput: with the key, and what to do.
    """
    with contextlib.suppress(ResponseError):  # a user may lack the right to INFO
        about = await client.info("cluster")
        if about.get("cluster_enabled") and len({key_slot(key.encode()) for key in keys}) > 1:
            raise BadInput(
                f"{', '.join(keys[:-1])} and {keys[-1]} lie in different slots of the cluster; give them one "
                "hash tag, e.g. {reelrank}:events, {reelrank}:labels and {reelrank}:dead."
            )
    for key in keys:
        kind = str(cast(bytes, await client.type(key)), "ascii")
        if kind not in ("none", "stream"):
            raise BadInput(f"{key} is a {kind}, not a stream; name another key.")
