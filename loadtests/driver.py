"""The load driver: an open loop at fixed times, a closed loop at saturation, and the figures of a run.

A closed loop sends the next request after the previous reply. While a service stalls it gets fewer requests,
and the stall counts once per connection (coordinated omission). In the open loop requests leave at times that
were fixed beforehand, and latency counts from the time a request was due, also while it waits for a
connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import selectors
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Final, TypeVar

import numpy as np

from loadtests.client import NO_REPLY, Address, Client
from loadtests.command import LoadtestError
from models.arrays import F64, I64

T = TypeVar("T")
Requests = Sequence[bytes] | Callable[[int], bytes]
"""Request i of a run: a list is repeated, a function is called when request i is due."""
Check = Callable[[int, bytes], None]
"""Called with status and body of each reply."""

LEAD_S: Final = 0.05
"""From the start of the driver to the first request."""
CONNECTIONS: Final = 400
PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
SPREAD: Final = ("p50", "p99", "max")
CURVE: Final = (0.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.95, 99.99, 100.0)
REFUSED: Final = 429
"""Admission control at work; counted apart from errors."""


@dataclass(frozen=True, slots=True)
class Run:
    """What became of N requests, each array `[N]` in the order they were due."""

    due_s: F64
    """From the start of the run."""
    latency_s: F64
    """From the time a request was due to the last byte of its reply, or to the end of the run."""
    wait_s: F64
    """From that time until it was sent: waiting for a connection, and the driver's lateness."""
    lateness_s: F64
    """The driver's lateness alone. Where it is near the latencies, the driver was the bottleneck."""
    service_s: F64
    """The service's own figure: from the request's first byte to the head of its reply. NaN without one."""
    status: I64
    """`NO_REPLY` where the connection broke or the run ended first."""


def poisson_times(rate: float, seconds: float, rng: np.random.Generator) -> F64:
    """Return rising arrival times `[N]` in s of a Poisson process with `rate` per second, N >= 1."""
    gaps = rng.exponential(1 / rate, size=max(1, round(rate * seconds)))
    times: F64 = np.cumsum(gaps)
    return times


def run_with_precise_timers(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine without garbage collection, on select(), whose time-outs are in microseconds.

    With epoll every request would be up to 1 ms late.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        with asyncio.Runner(
            loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
        ) as runner:
            return runner.run(main)
    finally:
        if collecting:
            gc.enable()


async def open_loop(
    due_s: Iterable[float], send: Callable[[int, float], Coroutine[Any, Any, object]]
) -> None:
    """Start `send(i, due)` when request i is due, whatever became of the others; return when all have ended.

    Args:
        due_s: rising, from the start of the loop.
        send: gets the number of the request and its due time by `perf_counter`.
    """
    start = perf_counter() + LEAD_S
    async with asyncio.TaskGroup() as tasks:
        for number, due in enumerate(due_s):
            await asyncio.sleep(max(0.0, start + due - perf_counter()))
            tasks.create_task(send(number, start + due))


def drive(
    address: Address,
    requests: Requests,
    due_s: F64,
    *,
    connections: int = CONNECTIONS,
    timeout_s: float = 10.0,
    check: Check | None = None,
) -> Run:
    """Run an open loop against a service.

    Args:
        address: host and port.
        requests: whole HTTP requests.
        due_s: `[N]`, rising, from the start of the run.
        connections: requests in flight at most. Further ones wait in the driver, and the wait counts.
        timeout_s: time for replies after the last request was due.
        check: called with each reply.
    """
    count = len(due_s)
    latency_s, wait_s, lateness_s = (np.zeros(count) for _ in range(3))
    service_s = np.full(count, np.nan)
    status = np.full(count, NO_REPLY, np.int64)
    end_s = float(due_s[-1]) + timeout_s
    latency_s[:] = end_s - due_s  # of requests that the end of the run cuts off

    async def main() -> None:
        async def send(number: int, due: float) -> None:
            lateness_s[number] = perf_counter() - due
            reply = await client.send(_request(requests, number))
            latency_s[number], wait_s[number] = reply.received_s - due, reply.sent_s - due
            service_s[number], status[number] = reply.service_s, reply.status
            if check is not None:
                check(reply.status, reply.body)

        async with Client(address, connections) as client:
            await client.open_all()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAD_S + end_s):
                    await open_loop(due_s, send)

    run_with_precise_timers(main())
    return Run(due_s, latency_s, wait_s, lateness_s, service_s, status)


def saturate(
    address: Address, requests: Requests, *, seconds: float, senders: int = 8, limit: int | None = None
) -> tuple[float, dict[int, int]]:
    """Run a closed loop: each sender sends the next request after its previous reply.

    Args:
        address: host and port.
        requests: whole HTTP requests.
        seconds: duration.
        senders: connections, each with one request in flight.
        limit: most requests to send, e.g. the number of different ones.

    Returns:
        Replies of status 200 a second, and the number of replies by status.

    Raises:
        LoadtestError: no reply was 200.
    """
    statuses: dict[int, int] = {}
    numbers = iter(range(limit or 10**12))

    async def main() -> float:
        async def sender(client: Client) -> None:
            for number in numbers:
                if perf_counter() > start + seconds:
                    return
                reply = await client.send(_request(requests, number))
                statuses[reply.status] = statuses.get(reply.status, 0) + 1

        async with Client(address, senders) as client:
            await client.open_all()
            start = perf_counter()
            await asyncio.gather(*(sender(client) for _ in range(senders)))
            return perf_counter() - start

    took_s = run_with_precise_timers(main())
    if not statuses.get(200):
        raise LoadtestError(
            f"no reply was 200, but {statuses}: bad requests, or a host too busy for the deadline"
        )
    return statuses[200] / took_s, statuses


def summarize(run: Run) -> dict[str, Any]:
    """Return the figures of a run.

    Returns:
        `requests`, `rate` (due a second), `goodput` (200 a second, until the last reply came), `statuses`
        (`gone` without a reply), `errors` (share neither 200 nor 429), `ms` (latency percentiles of the
        replies 200, from when they were due), `service_ms` (the same by the service's own clock; empty if it
        does not say), `unsent_ms` (p99 of the wait in the driver), `driver_late_ms` (p99 of its lateness).
    """
    good = run.status == 200
    last_reply_s = float((run.due_s + run.latency_s).max() - run.due_s.min())
    span = float(run.due_s[-1]) if len(run.due_s) > 1 else last_reply_s
    wrong = ~(good | (run.status == REFUSED))
    counts = zip(*(column.tolist() for column in np.unique(run.status, return_counts=True)), strict=True)
    return {
        "requests": len(run.status),
        "rate": round(len(run.status) / span, 1),
        "goodput": round(float(good.sum()) / max(span, last_reply_s), 1),
        "statuses": {"gone" if status == NO_REPLY else str(status): n for status, n in counts},
        "errors": round(float(wrong.mean()), 6),
        "ms": percentiles_ms(run.latency_s[good]),
        "service_ms": percentiles_ms(run.service_s[good & ~np.isnan(run.service_s)]),
        "unsent_ms": round(float(np.percentile(run.wait_s, 99)) * 1e3, 3),
        "driver_late_ms": round(float(np.percentile(run.lateness_s, 99)) * 1e3, 3),
    }


def time_calls(call: Callable[[], object], calls: int, seconds: float = math.inf) -> F64:
    """Return the seconds `[N]` of calls, one after the other: `calls`, or as many as start in `seconds`."""
    took_s: list[float] = []
    end_s = perf_counter() + seconds
    while len(took_s) < calls and (not took_s or perf_counter() < end_s):
        start_s = perf_counter()
        call()
        took_s.append(perf_counter() - start_s)
    return np.array(took_s)


def percentiles_ms(
    seconds: Sequence[float] | F64, names: Iterable[str] = tuple(PERCENTILES)
) -> dict[str, float]:
    """Return percentiles of latencies in ms by name, each a sample; empty without samples."""
    return {name: _percentile_ms(seconds, PERCENTILES[name]) for name in names} if len(seconds) else {}


def latency_curve(run: Run) -> list[tuple[float, float]]:
    """Return (percentile, ms) of the replies 200, as far as there are samples enough for a percentile."""
    good = run.latency_s[run.status == 200]
    supported = [q for q in CURVE if q == 100.0 or len(good) * (100.0 - q) >= 100.0]
    return [(q, _percentile_ms(good, q)) for q in supported] if len(good) else []


def by_second(run: Run) -> list[dict[str, Any]]:
    """Return for each second what became of the requests due in it.

    Returns:
        Rows of `second`, the numbers `good` (200), `refused` (429) and `wrong` (others), and `p99_ms` of the
        good ones, `None` without any.
    """
    second = np.floor(run.due_s).astype(np.int64)
    rows = []
    for number in range(int(second[-1]) + 1):
        due = second == number
        good, refused = due & (run.status == 200), due & (run.status == REFUSED)
        rows.append(
            {
                "second": number,
                "good": int(good.sum()),
                "refused": int(refused.sum()),
                "wrong": int(due.sum() - good.sum() - refused.sum()),
                "p99_ms": _percentile_ms(run.latency_s[good], 99.0) if good.any() else None,
            }
        )
    return rows


def meets_objective(figures: Mapping[str, Any], *, p99_ms: float, errors: float) -> bool:
    """Return whether p99, the share of errors and the share of refusals stay within an objective."""
    refused = figures["statuses"].get(str(REFUSED), 0)
    answered = figures["errors"] <= errors and refused <= errors * figures["requests"]
    return bool(answered and figures["ms"] and figures["ms"]["p99"] <= p99_ms)


def _request(requests: Requests, number: int) -> bytes:
    return requests(number) if callable(requests) else requests[number % len(requests)]


def _percentile_ms(seconds: Sequence[float] | F64, percentile: float) -> float:
    return round(float(np.percentile(seconds, percentile, method="higher")) * 1e3, 3)
