"""One scenario's figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from loadtests.faults.client import Answer
from loadtests.faults.ledger import Count
from loadtests.faults.load import Load

EVERY_SECOND: Final = "kills, fsync every second"
"""The one scenario that may lose what was acknowledged."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a scenario found.

    Attributes:
        name: of the scenario.
        requests: sent by the load, before, during and after the fault.
        answers: how many by outcome, see `Answer`.
        label_ms, rerank_ms: p50, p99 and max of the answers to what was sent while the fault lasted.
        recovered_s: see `Load.recovered_s`.
        events: see `Count`.
        tracebacks: in the service's log.
        notes: what else was counted, by name.
    """

    name: str
    requests: int
    answers: dict[str, int]
    label_ms: dict[str, float]
    rerank_ms: dict[str, float]
    recovered_s: float | None
    events: Count
    tracebacks: int
    notes: dict[str, Any]

    @property
    def may_lose(self) -> int:
        """Acknowledged events that a killed store may cost: one second's worth under `everysec`, else 0."""
        return int(self.notes["events_per_s"]) if self.name == EVERY_SECOND else 0

    @property
    def wrong(self) -> list[str]:
        """What must never be, in words; empty if all is well."""
        found = {
            "events lost": self.events.lost if self.events.lost > self.may_lose else 0,
            "events doubled": self.events.doubled,
            "answers 500": self.answers.get("500", 0),
            "tracebacks in the log": self.tracebacks,
            "requests dropped": self.notes.get("dropped", 0),
        }
        words = [f"{count} {what}" for what, count in found.items() if count]
        words += [f"not so: {note.replace('_', ' ')}" for note, so in self.notes.items() if so is False]
        return words if self.recovered_s is not None else [*words, "it did not recover"]

    def plain(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def row(name: str, load: Load, events: Count, log: str, **notes: Any) -> Row:
    """The figures of a load that has ended."""
    during = [a for a in load.answers if load.began_s <= a.sent_s < load.ended_s]
    recovered_s = load.recovered_s()
    return Row(
        name=name,
        requests=len(load.answers),
        answers=outcomes(load.answers),
        label_ms=spread(a.took_s for a in during if a.path == "/label"),
        rerank_ms=spread(a.took_s for a in during if a.path == "/rerank"),
        recovered_s=None if recovered_s is None else round(recovered_s, 2),
        events=events,
        tracebacks=log.count("Traceback"),
        notes=notes,
    )


def outcomes(answers: Sequence[Answer]) -> dict[str, int]:
    """How many of each, the good ones first."""
    return dict(sorted(Counter(a.outcome for a in answers).items()))


def spread(seconds: Iterable[float]) -> dict[str, float]:
    """p50, p99 and max in milliseconds; empty if there is nothing."""
    took = sorted(s * 1e3 for s in seconds)
    if not took:
        return {}
    places = {"p50": len(took) // 2, "p99": int(len(took) * 0.99), "max": len(took) - 1}
    return {name: round(took[place], 1) for name, place in places.items()}
