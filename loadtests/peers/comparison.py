"""Whether all servers agree, then how fast each is: in turns, so that other load affects all alike."""

from __future__ import annotations

import json
import math
import re
import statistics
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import numpy as np

from loadtests.client import BlockingConnection
from loadtests.command import LoadtestError, log_progress
from loadtests.driver import drive, poisson_times, saturate, summarize
from loadtests.host import cpu_ms
from loadtests.peers.servers import TIMEOUT_S, Server
from loadtests.report import PEER_COLUMNS, REELRANK

SEED: Final = 20
CONNECTIONS: Final = 8
HALF: Final = 0.5
"""Of the throughput of the slowest server: the rate at which the latencies of all are measured."""
TOLERANCE: Final = 1e-5
"""Relative or absolute, of scores and watch times: ours are rounded."""
HANGS_S: Final = 30.0
WARM_UP_S: Final = 1.0

Rounds = dict[str, list[float]]


def check_agreement(servers: Sequence[Server], requests: Sequence[bytes]) -> None:
    """Send the same requests to each server and compare the replies with those of the first.

    Raises:
        LoadtestError: a reply has other videos, another order or other figures, or is not 200.
    """
    for request in requests:
        expected = _rerank(servers[0], request)
        for server in servers[1:]:
            if (why := difference(expected, _rerank(server, request))) is not None:
                raise LoadtestError(f"{server.name} does not agree with {servers[0].name}: {why}")
    log_progress("peers", f"all servers agree on {len(requests)} requests")


def difference(expected: Mapping[str, Any], actual: Mapping[str, Any]) -> str | None:
    """Return the first difference of two slates beyond `TOLERANCE`, or `None`."""
    if len(expected["items"]) != len(actual["items"]):
        return f"{len(actual['items'])} items, not {len(expected['items'])}"
    for one, other in zip(expected["items"], actual["items"], strict=True):
        if (one["video_id"], one["rank"]) != (other["video_id"], other["rank"]):
            return f"rank {other['rank']} is {other['video_id']}, not rank {one['rank']}, {one['video_id']}"
        for name in ("score", "watch_time_s"):
            if not math.isclose(one[name], other[name], rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                return f"{name} of {one['video_id']} is {other[name]}, not {one[name]}"
    return None


def compare(
    servers: Sequence[Server], requests: Sequence[bytes], seconds: float, rounds: int
) -> dict[str, Any]:
    """Time the servers in turns: closed loops, then open loops at one rate for all.

    Returns:
        `asked_rate` (of the open loops) and `servers`: by name `rate` (replies a second of a closed loop),
        `cpu_ms` (of all its processes, a request), `p50_ms` and `p99_ms` (at that rate, from when requests
        were due), each with a figure a round, and `memory_mib` at the end.

    Raises:
        LoadtestError: a server failed, or a reply was not 200.
    """
    columns = ("rate", "cpu_ms", "p50_ms", "p99_ms")
    figures: dict[str, dict[str, Any]] = {server.name: {c: [] for c in columns} for server in servers}
    for server in servers:
        _closed_loop(server, requests, min(WARM_UP_S, seconds))
    for server in _turns(servers, rounds):
        rate, cpu = _closed_loop(server, requests, seconds)
        figures[server.name]["rate"].append(round(rate, 1))
        figures[server.name]["cpu_ms"].append(round(cpu, 3))
    rate = HALF * min(statistics.median(row["rate"]) for row in figures.values())
    rng = np.random.default_rng(SEED)
    for server in _turns(servers, rounds):
        due_s = poisson_times(rate, seconds, rng)
        with _guarded(server, float(due_s[-1])):
            run = drive(server.address, requests, due_s, connections=CONNECTIONS, timeout_s=TIMEOUT_S)
        found = summarize(run)
        if set(found["statuses"]) != {"200"}:
            raise LoadtestError(f"{server.name} replied {found['statuses']} at {rate:.0f} requests a second")
        figures[server.name]["p50_ms"].append(found["ms"]["p50"])
        figures[server.name]["p99_ms"].append(found["ms"]["p99"])
    for server in servers:
        figures[server.name]["memory_mib"] = pss_mib(server.process.pids())
    return {"asked_rate": round(rate, 1), "servers": figures}


def summarize_ratios(workers: int, comparison: Mapping[str, Any]) -> dict[str, Any]:
    """Return medians and ratios of a comparison, as they go into the report.

    Returns:
        `workers`, `asked_rate`, `servers` (medians, and `rounds`: each round's figures), `ratios` (ours by
        the peer's: the median of the rounds' ratios, which other load moves less than a ratio of medians) and
        `better`: the peer over which the `ratio` of our rate is smaller.
    """
    servers = comparison["servers"]
    ratios = {
        name: {column: _ratio(servers[REELRANK][column], row[column]) for column in PEER_COLUMNS}
        for name, row in servers.items()
        if name != REELRANK
    }
    medians = {
        name: {column: _median(row[column]) for column in PEER_COLUMNS}
        | {"rounds": {column: values for column, values in row.items() if isinstance(values, list)}}
        for name, row in servers.items()
    }
    better = min(ratios, key=lambda name: ratios[name]["rate"] or 0.0)
    return {
        "workers": workers,
        "asked_rate": comparison["asked_rate"],
        "servers": medians,
        "ratios": ratios,
        "better": {"name": better, "ratio": ratios[better]["rate"]},
    }


def pss_mib(pids: Sequence[int]) -> float | None:
    """Return the resident memory of processes, shared pages counted once; `None` where it cannot be read."""
    total = 0.0
    for pid in pids:
        with suppress(OSError):
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            match = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
            total += int(match[1]) / 1024 if match else 0.0
    return round(total, 1) or None


def _turns(servers: Sequence[Server], rounds: int) -> Iterator[Server]:
    """Yield each server once a round, with another one first each time."""
    for turn in range(rounds):
        first = turn % len(servers)
        yield from [*servers[first:], *servers[:first]]


def _closed_loop(server: Server, requests: Sequence[bytes], seconds: float) -> tuple[float, float]:
    """Return replies a second, and the ms of processor time of each."""
    pids = server.process.pids()
    before = sum(map(cpu_ms, pids))
    with _guarded(server, seconds):
        rate, statuses = saturate(server.address, requests, seconds=seconds, senders=CONNECTIONS)
    if set(statuses) != {200}:
        raise LoadtestError(f"{server.name} replied {statuses} in a closed loop")
    return rate, (sum(map(cpu_ms, pids)) - before) / statuses[200]


@contextmanager
def _guarded(server: Server, seconds: float) -> Iterator[None]:
    """Kill a server that hangs, so that its replies are not awaited for ever."""
    timer = threading.Timer(seconds + HANGS_S, server.process.kill_all)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, LoadtestError) as e:
        raise LoadtestError(f"{server.name}: {e}") from e
    finally:
        timer.cancel()


def _rerank(server: Server, request: bytes) -> dict[str, Any]:
    with _guarded(server, 0.0), BlockingConnection(server.address) as connection:
        slate: dict[str, Any] = json.loads(connection.send(request).body)
    return slate


def _median(values: Sequence[float] | float | None) -> float | None:
    return round(statistics.median(values), 3) if isinstance(values, Sequence) else values


def _ratio(one: Sequence[float] | float | None, other: Sequence[float] | float | None) -> float | None:
    pairs = zip(*(x if isinstance(x, Sequence) else [x] for x in (one, other)), strict=True)
    ratios = [x / y for x, y in pairs if x and y]
    return round(statistics.median(ratios), 3) if ratios else None
