"""What is asked of a service that is well. Each scenario returns figures; none asserts anything."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any, Final

from loadtests.load.bare import bare_ranker, compared
from loadtests.load.figures import curve, figures, within
from loadtests.load.search import capacity
from loadtests.load.stage import HISTORY, Stage
from loadtests.load.traffic import HOT

P99_MS: Final = 10.0
ERRORS: Final = 0.001
"""The objective a capacity is searched for: p99 and the share of errors."""

HALF: Final = 0.5
"""Of what it carries at most: the load at which latencies are told."""
WORKERS: Final = 2
LINES: Final = 500
"""Of an NDJSON body."""

Figures = dict[str, Any]
Scenario = Callable[[Stage], Figures]


def at(on: Stage, requests: list[bytes], rate: float) -> Figures:
    """The figures and the curve of a run at that rate."""
    run = on.drive(requests, rate)
    return figures(run) | {"curve": curve(run)}


def at_most_and_half(on: Stage, requests: list[bytes], *, senders: int = 8) -> Figures:
    """What everything is told by: `most` without pauses, and the figures at half of that."""
    most = on.most(requests, senders=senders)
    return {"most": round(most, 1), "half": at(on, requests, most * HALF)}


def rerank(candidates: int, *, against_bare: bool = False) -> Scenario:
    """Slates of that many candidates, users with histories by zeal.

    Args:
        candidates: of each slate.
        against_bare: whether the graph alone is timed beside, and what the service adds to it is told.
    """

    def play(on: Stage) -> Figures:
        count = max(1, on.pace.slates * min(200, candidates) // candidates)
        requests = on.traffic.slates(count, candidates)
        found = at_most_and_half(on, requests)
        found["capacity"] = searched(on, requests, found["most"])
        return found | (beside_bare(on, requests, candidates, found["most"]) if against_bare else {})

    return play


def searched(on: Stage, requests: list[bytes], most: float) -> float | None:
    """The highest rate at which p99 and errors keep to the objective."""

    def holds(rate: float) -> bool:
        found = figures(on.drive(requests, rate, on.pace.trial_s))
        return within(found, p99_ms=P99_MS, errors=ERRORS)

    rate = capacity(holds, most, on.pace.trials)
    return None if rate is None else round(rate, 1)


def beside_bare(on: Stage, requests: list[bytes], candidates: int, most: float) -> Figures:
    """One connection, one request at a time, and the graph alone in turn with it."""
    bare = bare_ranker(on.bundle, on.traffic.slate("bare", candidates), on.traffic.history(HISTORY))
    asked, called = compared(on.address, requests, bare, on.pace.rounds)
    asked_s, called_s = statistics.median(asked), statistics.median(called)
    return {
        "one_connection_ms": round(asked_s * 1e3, 3),
        "bare_call_ms": round(called_s * 1e3, 3),
        "over_bare_ms": round((asked_s - called_s) * 1e3, 3),
        "times_bare": round(asked_s / called_s, 2),
        "of_bare_throughput": round(most * called_s, 3),
    }


def cold_users(on: Stage) -> Figures:
    """Slates of users nobody has met."""
    return at_most_and_half(on, on.traffic.slates(on.pace.slates, 200, known=False))


def label(events: int) -> Scenario:
    """New exposures in bodies of that many, written before they are answered."""

    def play(on: Stage) -> Figures:
        pace = on.pace
        bodies = max(20, round(pace.events_per_s * pace.saturate_s / (events + LABEL_ALONE)))
        most = on.most(on.traffic.feedback(bodies, events), once=True)
        fresh = on.traffic.feedback(max(1, round(most * HALF * pace.seconds)), events)
        return {
            "most": round(most, 1),
            "events_per_s": round(most * events),
            "half": at(on, fresh, most * HALF),
        }

    return play


LABEL_ALONE: Final = 10
"""What a request for labels costs besides its events, in events: fewer bodies are needed than events."""


def stream(on: Stage) -> Figures:
    """New exposures as NDJSON."""
    pace = on.pace
    most = on.most(
        on.traffic.streams(max(4, round(pace.events_per_s * pace.saturate_s / LINES)), LINES), once=True
    )
    fresh = on.traffic.streams(max(1, round(most * HALF * pace.seconds)), LINES)
    unfinished = 0

    def check(number: int, status: int, body: bytes) -> None:
        nonlocal unfinished
        last = body[body.rfind(b"\n", 0, -1) + 1 :]
        unfinished += status == 200 and not last.startswith(b'{"status":"ok"')

    run = on.drive(fresh, most * HALF, check=check)
    return {
        "most": round(most, 1),
        "events_per_s": round(most * LINES),
        "half": figures(run) | {"curve": curve(run)},
        "unfinished": unfinished,
    }


def mixed(on: Stage) -> Figures:
    """Nine slates to one exposure."""
    slates = on.traffic.slates(on.pace.slates, 200)
    return at_most_and_half(on, on.traffic.mixed(slates, on.traffic.feedback(on.pace.slates // 5)))


def hot_users(on: Stage) -> Figures:
    """The same, of a crowd in which one user makes two fifths of it: one key is read and written."""
    slates = on.traffic.slates(on.pace.slates, 200, zipf=HOT)
    feedback = on.traffic.feedback(on.pace.slates // 5, zipf=HOT)
    found = at_most_and_half(on, on.traffic.mixed(slates, feedback))
    return found | {"first_users_share": round(on.traffic.first_users_share(HOT), 3)}


def workers(on: Stage) -> Figures:
    """What all cores carry together."""
    requests = on.traffic.slates(on.pace.slates, 200)
    # The kernel spreads connections, not requests: with few of them one worker would have most.
    return at_most_and_half(on, requests, senders=32) | {"workers": WORKERS}


def recorded(requests: list[bytes]) -> Scenario:
    """A recording, from the beginning again when it has ended; events of the second time are duplicates."""
    return lambda on: at_most_and_half(on, requests) | {"different": len(requests)}
