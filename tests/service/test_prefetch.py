"""A call that begins before it is awaited, and is otherwise a call."""

from __future__ import annotations

import asyncio

import pytest

from service.prefetch import Prefetch

pytestmark = pytest.mark.anyio


class Call:
    """A coroutine that notes how far it has come."""

    def __init__(self) -> None:
        self.noted: list[str] = []
        self.reply: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def run(self) -> str:
        self.noted.append("sent")
        try:
            async with asyncio.timeout(60):
                reply = await self.reply
            await asyncio.sleep(0)
            return reply
        except asyncio.CancelledError:
            self.noted.append("cancelled")
            raise
        finally:
            self.noted.append("ended")


async def test_a_call_begins_before_it_is_awaited_and_then_gives_its_result() -> None:
    call = Call()
    prefetch = Prefetch(call.run())
    assert call.noted == ["sent"]
    asyncio.get_running_loop().call_soon(call.reply.set_result, "reply")
    assert await prefetch == "reply"
    assert call.noted == ["sent", "ended"]
    prefetch.close()


async def test_a_call_that_ends_at_once_gives_its_result_or_its_error_when_it_is_awaited() -> None:
    async def fail() -> None:
        raise ValueError("at once")

    async def succeed() -> str:
        return "at once"

    assert await Prefetch(succeed()) == "at once"
    failed = Prefetch(fail())
    with pytest.raises(ValueError, match="at once"):
        await failed


async def test_a_timeout_around_it_cancels_the_call() -> None:
    call = Call()
    prefetch = Prefetch(call.run())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await prefetch
    assert call.noted == ["sent", "cancelled", "ended"]


async def test_a_timeout_inside_it_reaches_who_awaits_it() -> None:
    async def wait() -> None:
        async with asyncio.timeout(0):
            await asyncio.get_running_loop().create_future()

    prefetch = Prefetch(wait())
    with pytest.raises(TimeoutError):
        await prefetch


async def test_a_call_that_nobody_awaits_is_ended_by_close() -> None:
    call = Call()
    Prefetch(call.run()).close()
    assert call.noted == ["sent", "ended"]
