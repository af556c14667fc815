"""How much a service can carry at most: a few senders that never pause."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter

from loadtests.load.connections import Answer, Connection


def saturate(
    address: tuple[str, int],
    requests: Sequence[bytes],
    *,
    seconds: float,
    senders: int = 8,
    once: bool = False,
) -> tuple[float, dict[int, int]]:
    """Send as fast as it is answered.

    Args:
        address: host and port.
        requests: sent one after the other, then from the beginning again.
        seconds: for how long.
        senders: connections, each with one request in flight.
        once: whether each request is sent at most once; then it ends with the last of them.

    Returns:
        Answers of status 200 a second, and how many answers had which status.
    """
    return asyncio.run(_saturate(address, requests, seconds, senders, once))


async def _saturate(
    address: tuple[str, int], requests: Sequence[bytes], seconds: float, senders: int, once: bool
) -> tuple[float, dict[int, int]]:
    statuses: dict[int, int] = {}
    number = 0
    start = perf_counter()

    async def send() -> None:
        nonlocal number
        connection = await Connection.connect(*address)
        while perf_counter() < start + seconds and not (once and number >= len(requests)):
            request = requests[number % len(requests)]
            number += 1
            answer: Answer = await connection.send(request)
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            if not connection.open:
                connection = await Connection.connect(*address)
        connection.close()

    await asyncio.gather(*(send() for _ in range(senders)))
    return statuses.get(200, 0) / (perf_counter() - start), statuses
