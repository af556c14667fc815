"""A server that resets connections which wait in a pool: the next command takes a new one."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

import pytest
import uvloop

from models.errors import StoreUnavailable
from service.stream.redis_stream import EventStream, Names
from service.stream.source import Entry
from tests.service.stores import patient_store

Call = Callable[[], Awaitable[None]]


class ResettingServer:
    """A primary, a sentinel and a node of a cluster in one, without data."""

    def __init__(self) -> None:
        self.port = 0
        self.connections: list[asyncio.StreamWriter] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        with suppress(OSError):
            while command := await reader.read(65536):
                writer.write(self._reply(command))
        writer.close()

    def _reply(self, command: bytes) -> bytes:
        here = f"$9\r\n127.0.0.1\r\n:{self.port}\r\n"
        if b"SLOTS" in command:
            return f"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n{here}".encode()
        if b"SENTINEL" in command:
            fields = (
                f"name s ip 127.0.0.1 port {self.port} flags master num-other-sentinels 0 quorum 1".split()
            )
            return f"*1\r\n*{len(fields)}\r\n".encode() + b"".join(map(_bulk, fields))
        if b"XPENDING" in command:
            return b"*0\r\n"
        if b"MGET" in command:
            return b"*3\r\n$-1\r\n$-1\r\n$-1\r\n"
        return b"$-1\r\n" if b"GET" in command else b"+OK\r\n"

    def reset(self) -> None:
        """Send RST on every connection."""
        for writer in self.connections:
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self.connections.clear()


def _bulk(text: str) -> bytes:
    return f"${len(text)}\r\n{text}\r\n".encode()


async def _run(url: str, call: Callable[[str], AbstractAsyncContextManager[Call]]) -> None:
    """Reset all connections between calls. A reset that comes late breaks a call on its way instead."""
    server = ResettingServer()
    async with await asyncio.start_server(server.answer, "127.0.0.1", 0) as listening:
        server.port = listening.sockets[0].getsockname()[1]
        async with call(url.format(server.port)) as send:
            for _ in range(3):
                await send()
                server.reset()
                await asyncio.sleep(0.05)
            await send()


@asynccontextmanager
async def _store(url: str) -> AsyncIterator[Call]:
    store = patient_store(url)

    async def send() -> None:
        assert await store.read("alice") is None
        await store.put_profile("alice", {})

    yield send
    await store.close()


@asynccontextmanager
async def _stream(url: str) -> AsyncIterator[Call]:
    stream = EventStream.open(url, Names("events", "group", "consumer", "labels", "dead"), maxlen=10)

    async def send() -> None:
        with suppress(StoreUnavailable):  # it repeats no command; its caller does
            assert await stream.deliveries(Entry(b"1-0", {})) == 0

    yield send
    await stream.leave()


@pytest.mark.parametrize("url", ["redis+cluster://127.0.0.1:{}", "redis+sentinel://127.0.0.1:{}/s"])
def test_a_reset_of_idle_connections_fails_no_call_of_the_store(url: str) -> None:
    uvloop.run(_run(url, _store))


def test_a_reset_of_an_idle_connection_is_a_store_away_to_the_consumer() -> None:
    uvloop.run(_run("redis://127.0.0.1:{}", _stream))
