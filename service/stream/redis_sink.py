"""Labels and dead letters of a topic's events in two Redis Streams, each written once."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Self

from confluent_kafka import TopicPartition
from redis import asyncio as aioredis

from service.state.failures import unavailable
from service.state.multi_node_url import display_url
from service.state.scripts import WRITE_ONCE
from service.stream.redis_stream import Names, check_streams, open_client
from service.stream.source import Output


class RedisSink:
    """Two streams, and a hash beside them with the offsets up to which they are complete: writing and
    advancing it are one step, so a message that is read again writes nothing. Use `open`.

    Args:
        client: connections.
        names: of streams, topic and group.
        display_url: what to call the server in messages.
        maxlen: about how many entries labels and dead letters are kept each, the newest.
    """

    commits = False

    def __init__(self, client: aioredis.Redis, names: Names, *, display_url: str, maxlen: int) -> None:
        self._client = client
        self._names = names
        self._display_url = display_url
        self._maxlen = maxlen

    @classmethod
    def open(cls, url: str, names: Names, *, maxlen: int) -> Self:
        """Open the streams at a URL as of a store; see `open_client`."""
        return cls(open_client(url), names, display_url=display_url(url), maxlen=maxlen)

    async def prepare(self) -> None:
        """Check that the keys are streams.

        Raises:
            BadInput: one of the keys is something else, or a cluster has them in several slots.
        """
        with self._unavailable("be looked at"):
            await check_streams(self._client, (self._names.labels, self._names.dead))

    async def write(
        self, outputs: Sequence[Output], offsets: Sequence[TopicPartition], group: Any
    ) -> list[Output]:
        """Write those outputs whose messages lie at or after the offset that is kept for their partition."""
        names = self._names
        args: list[str | bytes | int] = [self._maxlen]
        for output in outputs:
            partition, _, offset = output.entry.rpartition(b"@")
            fields = [part for pair in output.fields.items() for part in pair]
            which = 2 if output.to == "labels" else 3
            args += (names.group.encode() + b"/" + partition, offset, which, len(fields), *fields)
        keys = (f"{names.labels}:offsets", names.labels, names.dead)
        with self._unavailable("keep labels"):
            now = await WRITE_ONCE.run(self._client, keys, *args)
        return [output for output, done in zip(outputs, now, strict=True) if done]

    async def close(self) -> None:
        """Close connections."""
        await self._client.aclose()

    def _unavailable(self, action: str) -> AbstractContextManager[None]:
        return unavailable(f"The streams at {self._display_url}", action)
