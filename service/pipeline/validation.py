"""Which events of a body go through, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from models.schema import FeedbackEvent
from service.wire import Rejected

MAX_AHEAD_MS: Final = 300_000
"""How far an event may lie in the future: clocks of phones differ, but not by more than that."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """A body's events after the rules that need no store."""

    stored: list[tuple[int, FeedbackEvent]] = field(default_factory=list)
    """To be written, with their positions."""
    late: list[tuple[int, FeedbackEvent]] = field(default_factory=list)
    """To be labelled only."""
    rejected: list[Rejected] = field(default_factory=list)


class KnowsVideos(Protocol):
    """What admission asks of the catalogue."""

    def complete_event(self, event: FeedbackEvent) -> FeedbackEvent:
        """The event with the members it lacks, where they are known."""
        ...


def admit(
    events: Sequence[FeedbackEvent | Rejected],
    catalogue: KnowsVideos,
    *,
    now_ms: int,
    late_s: float,
    first: int = 0,
) -> Admitted:
    """Sort events by what shall become of them.

    An event without a duration takes the catalogue's (`duration_unknown` if there is none). One more than
    300 s in the future is refused (`clock_skew`). One older than `late_s`, if that is set, gets its label
    and is not stored (`late`).

    Args:
        events: in the body's order; those that could not even be read are already `Rejected`.
        catalogue: knows durations.
        now_ms: the service's clock.
        late_s: 0 means no limit.
        first: position of the first event, in a body that is read in parts.
    """
    out = Admitted()
    latest_ms = now_ms + MAX_AHEAD_MS
    earliest_ms = now_ms - late_s * 1000 if late_s else -1.0
    for index, event in enumerate(events, first):
        if isinstance(event, Rejected):
            out.rejected.append(event)
            continue
        whole = catalogue.complete_event(event)
        if whole.duration_s is None:
            out.rejected.append(
                Rejected(
                    index=index,
                    code="duration_unknown",
                    detail=f"`duration_s` is missing and the catalogue does not know {event.video_id!r}; "
                    "send it with the event, or PUT /videos first.",
                    event_id=event.event_id,
                    loc="duration_s",
                )
            )
        elif event.timestamp_ms > latest_ms:
            out.rejected.append(
                Rejected(
                    index=index,
                    code="clock_skew",
                    detail=f"`timestamp_ms` is {(event.timestamp_ms - now_ms) / 1000:.0f} s in the future; "
                    f"at most {MAX_AHEAD_MS // 1000} s are accepted.",
                    event_id=event.event_id,
                    loc="timestamp_ms",
                )
            )
        elif event.timestamp_ms < earliest_ms:
            out.late.append((index, whole))
        else:
            out.stored.append((index, whole))
    return out


def late(index: int, event: FeedbackEvent, late_s: float) -> Rejected:
    """What a late event's entry says: it has its label, but the user's sequence does not have it."""
    return Rejected(
        index=index,
        code="late",
        detail=f"Labelled, not stored: older than {late_s:g} s.",
        event_id=event.event_id,
        loc="timestamp_ms",
    )
