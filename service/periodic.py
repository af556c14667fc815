"""Steps that a process repeats for as long as it lives."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

log = logging.getLogger("reelrank.periodic")

Step = Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def repeating(*steps: tuple[float, Step]) -> AsyncIterator[None]:
    """Repeat each step until the end of the `async with` block.

    Steps have time-outs of their own and are let finish: a cancellation in the middle of a command is now and
    then swallowed by the Redis client, and the process would never end.

    Args:
        steps: each with the seconds between its end and its next start.
    """
    closing = asyncio.Event()
    tasks = [asyncio.create_task(_repeat(period_s, step, closing)) for period_s, step in steps]
    try:
        yield
    finally:
        closing.set()
        await asyncio.gather(*tasks)


async def _repeat(period_s: float, step: Step, closing: asyncio.Event) -> None:
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(period_s):
                await closing.wait()
                return
        try:
            await step()
        except Exception:  # a fault in one step must not end all later ones
            log.exception("a background step failed; the next one is in %g s", period_s)
