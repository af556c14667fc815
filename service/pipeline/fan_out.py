"""One store call for each of many users."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

CONCURRENT_USERS: Final = 32
"""Calls of one request at a time. More would only wait in the client's connections."""


async def for_each_user(call: Callable[[T], Awaitable[R]], users: Iterable[T]) -> list[R]:
    """Await one call for each user and return the results in their order.

    Every call ends before this does; then the first error is raised, if there was one.
    """
    semaphore = asyncio.Semaphore(CONCURRENT_USERS)

    async def bounded(user: T) -> R:
        async with semaphore:
            return await call(user)

    results = await asyncio.gather(*map(bounded, users), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results  # type: ignore[return-value]  # none of them is an exception
