"""What becomes of each event: the rules that need no store, then the outcomes of the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from models.schema import FeedbackEvent
from models.signals import NO_SIGNALS, SignalFault, Signals
from service.state.protocol import Outcome
from service.wire import Rejected

MAX_AHEAD_MS: Final = 300_000
"""How far an event may lie in the future: clocks of phones differ, but not by more than that."""

REFUSED: Final = {"conflict": "event_id", "unreadable": "user_id"}
"""Outcomes of events that the store does not take, and the member that is why."""


class Exposure(NamedTuple):
    """An exposure that gets a label."""

    position: int
    """Position of its event in the body."""
    event: FeedbackEvent
    """The exposure as the store has it now, feedback of earlier events included."""
    duplicate: bool = False
    """Whether the store had exactly this event already."""


@dataclass(frozen=True, slots=True)
class Validated:
    """The events of a body after the rules that need no store."""

    accepted: list[Exposure] = field(default_factory=list)
    """To be stored and labelled."""
    late: list[Exposure] = field(default_factory=list)
    """To be labelled only."""
    rejected: list[Rejected] = field(default_factory=list)
    """Late ones too: each is named although it has a label."""


def validate_events(
    events: Sequence[FeedbackEvent | Rejected],
    *,
    now_ms: int,
    earliest_ms: int,
    late_s: float,
    signals: Sequence[Signals] = (NO_SIGNALS,),
    offset: int = 0,
) -> Validated:
    """Apply the rules that need no store.

    An event with a signal that no bundle knows, or knows with another kind of value, is rejected (`invalid`).
    An event without a duration is rejected (`duration_unknown`), and so is one more than 300 s in the future
    or before `earliest_ms` (`clock_skew`). One older than `late_s`, if that is set, gets its label and is not
    stored (`late`).

    Args:
        events: completed from the catalogue, in the body's order; those that could not be decoded are
            `Rejected` already.
        now_ms: the service's clock.
        earliest_ms: the first moment that is taken for one.
        late_s: 0 means no limit.
        signals: own ones, of each bundle that answers; the first is the active one's.
        offset: position of the first event, in a body that is read in parts.
    """
    out = Validated()
    latest_ms = now_ms + MAX_AHEAD_MS
    late_ms = now_ms - late_s * 1000 if late_s else -1.0
    for index, event in enumerate(events, offset):
        if isinstance(event, Rejected):
            out.rejected.append(event)
        elif event.signals and (fault := _fault(event.signals, signals)):
            out.rejected.append(_rejected(index, event, "invalid", fault.detail, f"signals.{fault.name}"))
        elif event.duration_s is None:
            detail = (
                f"`duration_s` is missing and the catalogue does not know {event.video_id!r}; "
                "send it with the event, or PUT /videos first."
            )
            out.rejected.append(_rejected(index, event, "duration_unknown", detail, "duration_s"))
        elif event.timestamp_ms > latest_ms:
            detail = (
                f"`timestamp_ms` is {(event.timestamp_ms - now_ms) / 1000:.0f} s in the future; "
                f"at most {MAX_AHEAD_MS // 1000} s are accepted."
            )
            out.rejected.append(_rejected(index, event, "clock_skew", detail, "timestamp_ms"))
        elif event.timestamp_ms < earliest_ms:
            detail = too_early(event.timestamp_ms, earliest_ms)
            out.rejected.append(_rejected(index, event, "clock_skew", detail, "timestamp_ms"))
        elif event.timestamp_ms < late_ms:
            detail = f"Labelled, not stored: older than {late_s:g} s."
            out.rejected.append(_rejected(index, event, "late", detail, "timestamp_ms"))
            out.late.append(Exposure(index, event))
        else:
            out.accepted.append(Exposure(index, event))
    return out


def _fault(values: Mapping[str, bool | float], signals: Sequence[Signals]) -> SignalFault | None:
    """Return what is wrong with an event's signals under every bundle, as the active one has it."""
    faults = [known.fault(values) for known in signals]
    return faults[0] if all(faults) else None


def too_early(timestamp_ms: int, earliest_ms: int) -> str:
    """Return why a moment is not taken for one."""
    return (
        f"`timestamp_ms` {timestamp_ms} is before {earliest_ms} (REELRANK_EARLIEST_MS); is it in seconds? "
        "Times are Unix milliseconds."
    )


def apply_outcomes(
    validated: Validated, outcomes: Sequence[Outcome]
) -> tuple[list[Exposure], list[Rejected], Counter[str]]:
    """Combine the rules' verdicts with the store's.

    Args:
        validated: the events.
        outcomes: one for each of `validated.accepted`.

    Returns:
        The exposures to label and the rejected events, both in the body's order, and the number of events by
        outcome: accepted, duplicate, merged.
    """
    counts: Counter[str] = Counter(outcome.kind for outcome in outcomes)
    refused = sum(counts.pop(kind, 0) for kind in REFUSED)
    exposures = [
        Exposure(accepted.position, outcome.event, outcome.kind == "duplicate")
        for accepted, outcome in zip(validated.accepted, outcomes, strict=True)
        if outcome.kind not in REFUSED
    ]
    rejected = validated.rejected
    if refused:
        rejected = rejected + [
            _rejected(
                accepted.position,
                outcome.event,
                outcome.kind,
                outcome.detail,
                REFUSED[outcome.kind],
            )
            for accepted, outcome in zip(validated.accepted, outcomes, strict=True)
            if outcome.kind in REFUSED
        ]
        rejected.sort(key=lambda r: r.index)
    if validated.late:
        exposures = sorted(exposures + validated.late)
    return exposures, rejected, counts


def _rejected(index: int, event: FeedbackEvent, code: str, detail: str, loc: str) -> Rejected:
    return Rejected(index=index, code=code, detail=detail, event_id=event.event_id, loc=loc)
