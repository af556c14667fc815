"""What a load has to have met with, and small things that drills share."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import httpx2

from loadtests.faults.ledger import Ledger
from loadtests.faults.load import Load
from loadtests.topology.compose import Topology
from loadtests.topology.images import Starved, StepFailed

Found = dict[str, Any]

SENDERS: Final = 4
EVENTS: Final = 10
"""Of one body, flat out."""
NO_REPLICA: Final = "No replica is ready"
"""What the proxy says, and no replica."""


def unharmed(topology: Topology, load: Load) -> Found:
    """That every request of the load was answered, retried once at most, and every acknowledged event is
    there."""
    outcomes = Counter(answer.outcome for answer in load.answers)
    failed = {outcome: count for outcome, count in outcomes.items() if not outcome.startswith("200")}
    if failed:
        said = Counter(answer.said for answer in load.answers if answer.said).most_common(2)
        refused = set(failed) <= {"429", "503"} and not any(NO_REPLICA in what for what, _ in said)
        error = Starved if refused else StepFailed
        raise error(f"failed after a retry: {failed} of {len(load.answers)}; {said}")
    with topology.http() as http:
        count = load.ledger.check(http)
    need(count.lost == count.doubled == 0, f"{count}")
    return {
        "requests": len(load.answers),
        "retried_once": sum(answer.tries > 1 for answer in load.answers),
        "failed": 0,
        "degraded_slates": outcomes["200 degraded"],
        "events": count.acknowledged,
        "lost": 0,
    }


def need(holds: object, otherwise: str) -> None:
    if not holds:
        raise StepFailed(otherwise)


def send(http: httpx2.Client, ledger: Ledger, events: int) -> None:
    for _ in range(events // 50):
        batch = ledger.batch(50)
        ledger.settle(batch, http.post("/label", json=batch).raise_for_status().json())
