"""The driver: requests leave at times that were fixed before the first one did.

A closed loop waits for an answer before it sends the next request, so a service that stalls is asked less
while it stalls, and the stall is counted once. Here the next user comes anyway, and latency counts from the
moment the request was due, whether or not a connection was free then: no coordinated omission.
"""

from __future__ import annotations

import asyncio
import gc
import selectors
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final

import numpy as np

from loadtests.load.connections import GONE, Connection
from models.arrays import F64, I64

LEAD_S: Final = 0.05
"""From the start of the driver to the first request."""

Check = Callable[[int, int, bytes], None]


@dataclass(frozen=True, slots=True)
class Run:
    """What became of N requests, each array `[N]` in the order they were due."""

    due_s: F64
    """From the start of the run."""
    latency_s: F64
    """From the moment the request was due to its answer's last byte."""
    late_s: F64
    """From that moment to its sending: waiting for a free connection, and the driver's own lateness."""
    behind_s: F64
    """The driver's own lateness alone: where it is near the latencies, the driver was the bottleneck."""
    status: I64
    """`GONE` where the connection broke or the run ended first."""

    @property
    def seconds(self) -> float:
        """From the first moment a request was due to the last answer."""
        return float((self.due_s + self.latency_s).max() - self.due_s.min())


def due_times(rate: float, seconds: float, rng: np.random.Generator) -> F64:
    """When requests are due: a Poisson process of `rate` a second, as of users who do not know each other."""
    gaps = rng.exponential(1 / rate, size=max(1, round(rate * seconds)))
    times: F64 = np.cumsum(gaps)
    return times


def drive(
    address: tuple[str, int],
    requests: Sequence[bytes],
    due_s: F64,
    *,
    connections: int = 32,
    timeout_s: float = 10.0,
    check: Check | None = None,
) -> Run:
    """Send `requests[i % len(requests)]` at `due_s[i]`.

    Args:
        address: host and port of the service.
        requests: whole HTTP requests.
        due_s: rising, in seconds from the start.
        connections: most requests in flight. More than those wait in the driver, and their waiting counts.
        timeout_s: after the last request was due, how long its answer is waited for.
        check: called with position, status and body of each answer.
    """
    # select() alone takes its time-out in microseconds: epoll's would make every request up to 1 ms late.
    loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
    frozen = gc.isenabled()
    gc.disable()
    try:
        driver = _Driver(address, requests, due_s, check)
        return loop.run_until_complete(driver.run(connections, timeout_s))
    finally:
        if frozen:
            gc.enable()
        loop.close()


class _Driver:
    def __init__(
        self, address: tuple[str, int], requests: Sequence[bytes], due_s: F64, check: Check | None
    ) -> None:
        self._address = address
        self._requests = requests
        self._due = due_s
        self._check = check
        n = len(due_s)
        self._latency = np.full(n, np.nan)
        self._late = np.full(n, np.nan)
        self._behind = np.zeros(n)
        self._status = np.full(n, GONE, np.int64)
        self._free: deque[Connection] = deque()
        self._waiting: deque[int] = deque()
        self._left = n
        self._ended = asyncio.Event()
        self._over = False
        self._opened: list[Connection] = []
        self._reconnecting: set[asyncio.Task[None]] = set()

    async def run(self, connections: int, timeout_s: float) -> Run:
        self._start = perf_counter()
        self._free.extend(await asyncio.gather(*(self._connect() for _ in range(connections))))
        self._start = perf_counter() + LEAD_S
        for i, due in enumerate(self._due):
            wait = self._start + due - perf_counter()
            await asyncio.sleep(max(0.0, wait))
            self._behind[i] = perf_counter() - self._start - due
            self._dispatch(i)
        end: Any = asyncio.timeout(timeout_s)
        try:
            async with end:
                await self._ended.wait()
        except TimeoutError:
            pass  # what is unanswered stays `GONE`, as late as the run was long
        self._over = True
        now = perf_counter() - self._start
        missing = np.isnan(self._latency)
        self._latency[missing] = now - self._due[missing]
        self._late[np.isnan(self._late)] = 0.0
        for task in self._reconnecting:
            task.cancel()
        await asyncio.gather(*self._reconnecting, return_exceptions=True)
        for connection in self._opened:
            connection.close()
        await asyncio.sleep(0)
        return Run(self._due, self._latency, self._late, self._behind, self._status)

    async def _connect(self) -> Connection:
        connection = await Connection.connect(*self._address)
        self._opened.append(connection)
        return connection

    def _dispatch(self, i: int) -> None:
        while self._free:
            connection = self._free.popleft()
            if connection.open:
                self._send(connection, i)
                return
            self._replace()
        self._waiting.append(i)

    def _send(self, connection: Connection, i: int) -> None:
        self._late[i] = perf_counter() - self._start - self._due[i]
        answer = connection.send(self._requests[i % len(self._requests)])
        answer.add_done_callback(lambda done: self._answered(connection, i, done))

    def _answered(self, connection: Connection, i: int, done: asyncio.Future[Any]) -> None:
        if self._over:  # hanging up at the end is what ended it
            return
        answer = done.result()
        self._latency[i] = answer.at_s - self._start - self._due[i]
        self._status[i] = answer.status
        if self._check is not None:
            self._check(i, answer.status, answer.body)
        self._left -= 1
        if self._left == 0:
            self._ended.set()
        if not connection.open:
            self._replace()
        else:
            self._take(connection)

    def _take(self, connection: Connection) -> None:
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._free.append(connection)

    def _replace(self) -> None:
        """A connection for one that was closed; the service may be gone for a moment."""

        async def connect() -> None:
            while True:
                try:
                    self._take(await self._connect())
                    return
                except OSError:
                    await asyncio.sleep(0.02)

        task = asyncio.ensure_future(connect())
        self._reconnecting.add(task)
        task.add_done_callback(self._reconnecting.discard)
