"""The shared connection to the store: each call gets its own reply, whatever becomes of the others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import AuthenticationError, NoScriptError, ResponseError
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import TimeoutError as NotInTime

from loadtests.faults.proxy import FaultProxy
from service.state.pipelined_connection import PipelinedConnection

pytestmark = pytest.mark.anyio

TIMEOUT_S = 5.0


@pytest.fixture
def url(embedded_url: str) -> str:
    return embedded_url


@pytest.fixture
def proxy(url: str) -> Iterator[FaultProxy]:
    with FaultProxy(url.removeprefix("unix://")) as running:
        yield running


async def test_each_of_many_calls_at_once_gets_its_own_reply(url: str) -> None:
    pipe = PipelinedConnection(url, TIMEOUT_S)

    async def ask(number: int) -> bool:
        answers = await pipe.send_many([("ECHO", f"{number}-{i}") for i in range(number % 5)])
        return answers == [f"{number}-{i}".encode() for i in range(number % 5)]

    assert all(await asyncio.gather(*map(ask, range(500))))
    await pipe.aclose()


async def test_a_cancelled_call_leaves_no_reply_to_the_next(url: str) -> None:
    pipe = PipelinedConnection(url, TIMEOUT_S)
    await pipe.execute_command("PING")
    for number in range(50):
        given_up = asyncio.create_task(pipe.execute_command("ECHO", "not mine"))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await pipe.execute_command("ECHO", number) == str(number).encode()
    await pipe.aclose()


async def test_an_error_among_several_answers_is_that_ones_alone(url: str) -> None:
    pipe = PipelinedConnection(url, TIMEOUT_S)
    first, second, third = await pipe.send_many([("ECHO", "a"), ("EVALSHA", "0" * 40, 0), ("ECHO", b"b")])
    assert (first, third) == (b"a", b"b")
    assert isinstance(second, NoScriptError)
    with pytest.raises(ResponseError, match="unknown command"):
        await pipe.execute_command("NOSUCH")
    await pipe.aclose()


async def test_a_connection_that_was_cut_is_made_again_and_the_command_repeated(proxy: FaultProxy) -> None:
    pipe = PipelinedConnection(f"redis://127.0.0.1:{proxy.port}", TIMEOUT_S)
    for number in range(5):
        assert await pipe.execute_command("ECHO", number) == str(number).encode()
        proxy.cut()
    await pipe.aclose()


async def test_a_silent_connection_is_given_up_even_if_no_call_waits_to_the_end(proxy: FaultProxy) -> None:
    pipe = PipelinedConnection(f"redis://127.0.0.1:{proxy.port}", 0.2)
    before = await pipe.execute_command("CLIENT", "ID")
    proxy.half_open()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await pipe.execute_command("PING")
    with pytest.raises(NotInTime):
        await pipe.execute_command("PING")
    proxy.heal()
    async with asyncio.timeout(TIMEOUT_S):
        while True:  # what was sent into the silence is answered to no call
            try:
                assert await pipe.execute_command("CLIENT", "ID") != before
                break
            except NotInTime:
                continue
    await pipe.aclose()


async def test_all_calls_to_a_server_that_is_away_fail(tmp_path: Path) -> None:
    pipe = PipelinedConnection(f"unix://{tmp_path}/missing.sock", TIMEOUT_S)
    errors = await asyncio.gather(*(pipe.execute_command("PING") for _ in range(50)), return_exceptions=True)
    assert {type(e) for e in errors} == {NotConnected}
    await pipe.aclose()


async def test_a_wrong_password_is_said_to_be_one(proxy: FaultProxy) -> None:
    pipe = PipelinedConnection(f"redis://unknown:wrong@127.0.0.1:{proxy.port}", TIMEOUT_S)
    with pytest.raises(AuthenticationError):
        await pipe.execute_command("PING")
    await pipe.aclose()


async def test_a_database_is_chosen_by_its_number(proxy: FaultProxy) -> None:
    first, second = (PipelinedConnection(f"redis://127.0.0.1:{proxy.port}/{db}", TIMEOUT_S) for db in (0, 3))
    await first.execute_command("SET", "pipe-db", "0")
    assert await second.execute_command("GET", "pipe-db") is None
    await asyncio.gather(first.aclose(), second.aclose())


async def test_what_is_closed_answers_nothing_any_more(url: str) -> None:
    pipe = PipelinedConnection(url, TIMEOUT_S)
    await pipe.execute_command("PING")
    waiting = asyncio.create_task(pipe.execute_command("BLPOP", "nothing", 60))
    await asyncio.sleep(0.05)
    await pipe.aclose()
    with pytest.raises(NotConnected):
        await waiting


async def test_a_server_that_is_no_redis_is_named_as_such() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        pipe = PipelinedConnection(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", TIMEOUT_S)
        with pytest.raises(NotConnected, match="no Redis server"):
            await pipe.execute_command("PING")
        await pipe.aclose()
