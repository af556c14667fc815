"""First whether all of them answer alike, then how fast: in turns, so that a busy minute hits them all."""

from __future__ import annotations

import json
import math
import statistics
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx2
import numpy as np

from loadtests.load.closed_loop import saturate
from loadtests.load.figures import figures
from loadtests.load.open_loop import drive, due_times
from loadtests.peers.processes import clear, members, memory_mib, worked_ms
from loadtests.peers.servers import TIMEOUT_S, Server
from loadtests.peers.traffic import SEED

CONNECTIONS: Final = 8
"""Without pauses, and at a rate: the same for all."""
HALF: Final = 0.5
"""Of what the slowest of them carries: the rate at which latencies are told, of all of them."""
TOLERANCE: Final = 1e-5
"""How far scores and watch times may be apart, relative to them or absolute: ours are rounded."""
HANGS_S: Final = 30.0
"""How much longer than it should a run may last, before what it drives is ended."""
WARM_UP_S: Final = 1.0


class PeersDiffer(Exception):
    """They do not do the same, so there is nothing to compare. The message says what is different."""


class PeerFailed(Exception):
    """One of them broke down, or answered something else than 200, while it was timed."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How much of everything.

    Attributes:
        seconds: of one turn of one server.
        rounds: turns of each, without pauses and then at a rate.
        users: with a history each.
        slates: different ones.
        workers: of each server, one comparison after the other.
    """

    seconds: float
    rounds: int
    users: int
    slates: int
    workers: tuple[int, ...]


def agree(servers: Sequence[Server], bodies: Sequence[Mapping[str, Any]]) -> None:
    """Ask each server the same, the first one for comparison.

    Raises:
        PeersDiffer: an answer has other videos, another order, or other figures.
        PeerFailed: one did not answer, or not with 200.
    """
    for body in bodies:
        wanted = _ask(servers[0], body)
        for server in servers[1:]:
            if (why := difference(wanted, _ask(server, body))) is not None:
                raise PeersDiffer(f"{server.name} does not answer as {servers[0].name} does: {why}")


def difference(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """What is not the same in two slates, within `TOLERANCE`; `None` if nothing is."""
    if len(wanted["items"]) != len(found["items"]):
        return f"{len(found['items'])} items, not {len(wanted['items'])}"
    for one, other in zip(wanted["items"], found["items"], strict=True):
        if (one["video_id"], one["rank"]) != (other["video_id"], other["rank"]):
            return f"rank {other['rank']} is {other['video_id']}, not rank {one['rank']}, {one['video_id']}"
        for name in ("score", "watch_time_s"):
            if not math.isclose(one[name], other[name], rel_tol=TOLERANCE, abs_tol=TOLERANCE):
                return f"{name} of {one['video_id']} is {other[name]}, not {one[name]}"
    return None


def compare(servers: Sequence[Server], requests: Sequence[bytes], pace: Pace) -> dict[str, Any]:
    """Time them in turns.

    Returns:
        `asked_rate` (requests a second at which latencies were taken) and `servers`: by name `rate` (answers
        a second without pauses), `cpu_ms` (processor time of its processes a request, meanwhile), `p50_ms`
        and `p99_ms` (at that rate, from the moment a request was due), each a list with a figure a round,
        and `memory_mib` at the end.

    Raises:
        PeerFailed: see there.
    """
    found: dict[str, dict[str, Any]] = {
        server.name: {"rate": [], "cpu_ms": [], "p50_ms": [], "p99_ms": []} for server in servers
    }
    for server in servers:
        _most(server, requests, min(WARM_UP_S, pace.seconds))
    for server in _turns(servers, pace.rounds):
        rate, cpu_ms = _most(server, requests, pace.seconds)
        found[server.name]["rate"].append(round(rate, 1))
        found[server.name]["cpu_ms"].append(round(cpu_ms, 3))
    asked = HALF * min(statistics.median(of["rate"]) for of in found.values())
    rng = np.random.default_rng(SEED)
    for server in _turns(servers, pace.rounds):
        ms = _at(server, requests, due_times(asked, pace.seconds, rng))
        found[server.name]["p50_ms"].append(ms["p50"])
        found[server.name]["p99_ms"].append(ms["p99"])
    for server in servers:
        found[server.name]["memory_mib"] = memory_mib(members(server.mark))
    return {"asked_rate": round(asked, 1), "servers": found}


def _turns(servers: Sequence[Server], rounds: int) -> Iterator[Server]:
    """Each once a round; the one that begins is another one each time."""
    for turn in range(rounds):
        first = turn % len(servers)
        yield from servers[first:]
        yield from servers[:first]


def _most(server: Server, requests: Sequence[bytes], seconds: float) -> tuple[float, float]:
    """Answers a second, and milliseconds of processor time for each."""
    pids = members(server.mark)
    before = worked_ms(pids)
    with _bounded(server, seconds):
        rate, statuses = saturate(server.address, requests, seconds=seconds, senders=CONNECTIONS)
    if set(statuses) != {200}:
        raise PeerFailed(f"{server.name} answered {statuses} when it was asked without pauses")
    return rate, (worked_ms(pids) - before) / statuses[200]


def _at(server: Server, requests: Sequence[bytes], due_s: Any) -> dict[str, float]:
    """Percentiles of the latency, in milliseconds."""
    with _bounded(server, float(due_s[-1])):
        found = figures(drive(server.address, requests, due_s, connections=CONNECTIONS, timeout_s=TIMEOUT_S))
    if found["errors"] or set(found["statuses"]) != {"200"}:
        raise PeerFailed(f"{server.name} answered {found['statuses']} at {found['rate']} requests a second")
    ms: dict[str, float] = found["ms"]
    return ms


@contextmanager
def _bounded(server: Server, seconds: float) -> Iterator[None]:
    """A server that hangs is ended, so that whoever waits for its answer need not wait for ever."""
    end = threading.Timer(seconds + HANGS_S, clear, [server.mark])
    end.daemon = True
    end.start()
    try:
        yield
    except OSError as e:
        raise PeerFailed(f"{server.name} is not there any more: {e}") from e
    finally:
        end.cancel()


def _ask(server: Server, body: Mapping[str, Any]) -> dict[str, Any]:
    try:
        answer = httpx2.post(f"{server.url}/rerank", json=body, timeout=TIMEOUT_S)
    except httpx2.HTTPError as e:
        raise PeerFailed(f"{server.name} does not answer: {e}") from e
    if answer.status_code != 200:
        raise PeerFailed(f"{server.name} answers {answer.status_code}: {answer.text[:300]}")
    slate: dict[str, Any] = json.loads(answer.content)
    return slate
