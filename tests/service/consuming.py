"""Consumers of a stream, whatever keeps its events: in this process, and as the program."""

from __future__ import annotations

import asyncio
import select
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from service.services import Services
from service.stream.consumer import Consumer, ConsumerConfig
from service.stream.metrics import StreamMetrics
from service.stream.source import Source
from tests.service.running import NOW_MS, START_S, event


def events(user: str, count: int) -> list[dict[str, Any]]:
    return [event(f"{user}-e{i}", f"{user}-{i % 7}", timestamp_ms=NOW_MS + i) for i in range(count)]


@asynccontextmanager
async def running_consumers(
    services: Services, sources: Sequence[Source], config: ConsumerConfig
) -> AsyncIterator[list[Consumer]]:
    """A consumer of each source in this process, running; ended as by a signal."""
    stop, metrics = asyncio.Event(), StreamMetrics(services.metrics.registry)
    running = [Consumer(services.label, source, config, metrics, stop) for source in sources]
    tasks = [asyncio.create_task(consumer.run()) for consumer in running]
    try:
        yield running
    finally:
        stop.set()
        await asyncio.gather(*tasks)
        for source in sources:
            await source.leave()


async def until(holds: Callable[..., Any], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.02)


@contextmanager
def consume_program(
    options: Mapping[str, object], environment: Mapping[str, str], *more: str
) -> Iterator[subprocess.Popen[str]]:
    """`python -m service consume`, once it consumes; killed at the end if it still runs."""
    arguments = [str(part) for name, value in options.items() for part in (f"--{name}", value)]
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "consume", *arguments, *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            there, _, _ = select.select([process.stdout], [], [], START_S)
            if not (there and "consumes" in process.stdout.readline()):
                process.kill()
                raise AssertionError(process.stderr.read())
            yield process
        finally:
            process.kill()
