"""The calls that write a body's events, and what their answers mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from models.schema import FeedbackEvent
from service.state import codec
from service.state.protocol import (
    Outcome,
    conflict_with_other_user,
    conflict_with_other_video,
    unreadable_user,
)

MAX_EVENTS: Final = 500
"""Events a call. The server does nothing else meanwhile (some 10 ms at worst), and the answer must come
within the time-out; more events of one user, which only an import has, go in several calls."""

MAX_USERS: Final = 128
"""Users a call, for the same reason: some 15 µs each, and up to 60 where an event is not the newest."""

ACCEPTED: Final = ord("a")
DUPLICATE: Final = ord("d")
CONFLICT: Final = ord("c")
UNREADABLE: Final = b"u"
"""Instead of letters, for a user on whom something is stored that cannot be read."""

Group = tuple[str, list[FeedbackEvent]]
"""A user, and events of that user, normalised."""


def group_by_user(events: Sequence[FeedbackEvent]) -> dict[str, list[FeedbackEvent]]:
    """Return one group a user, in the order of the body."""
    groups: dict[str, list[FeedbackEvent]] = {}
    for event in events:
        groups.setdefault(event.user_id, []).append(event)
    return groups


def split_into_calls(groups: Mapping[str, Sequence[FeedbackEvent]]) -> Iterator[list[Group]]:
    """Yield the groups, a call's worth at a time; no user is twice in a call."""
    call: list[Group] = []
    room = MAX_EVENTS
    for user_id, events in groups.items():
        for start in range(0, len(events), MAX_EVENTS):
            part = list(map(codec.normalised, events[start : start + MAX_EVENTS]))
            if len(part) > room or len(call) == MAX_USERS:
                yield call
                call, room = [], MAX_EVENTS
            call.append((user_id, part))
            room -= len(part)
    if call:
        yield call


class Batch(msgspec.Struct, frozen=True):
    """One user's events in a call, and whose their ids are."""

    user_id: str
    events: list[FeedbackEvent]
    claims: list[bool | None]
    """Of each event: `None` if its id was free, whether it was this user's if not."""

    @property
    def kept(self) -> list[FeedbackEvent]:
        """The events that are not refused because their ids are another user's."""
        if False not in self.claims:
            return self.events
        pairs = zip(self.events, self.claims, strict=True)
        return [event for event, own in pairs if own is not False]

    @property
    def claimed(self) -> bytes:
        """Which of the kept events were claimed before, as `sequence.lua` takes it."""
        if True not in self.claims:
            return b""
        return b"".join(b"1" if own else b"0" for own in self.claims if own is not False)

    def outcomes(self, letters: bytes, records: bytes) -> list[Outcome]:
        """Return what became of the events.

        Args:
            letters: of the kept ones, as `sequence.lua` returns them.
            records: of those that are not new, likewise.

        Raises:
            ValueError: the records cannot be read.
        """
        if letters.count(ACCEPTED) == len(self.events):
            return [Outcome("accepted", event) for event in self.events]
        unreadable = letters == UNREADABLE
        stored = iter(() if unreadable or not records else codec.decode_events(self.user_id, records))
        rest = iter(letters)
        outcomes = []
        for event, own in zip(self.events, self.claims, strict=True):
            if own is False:
                outcomes.append(conflict_with_other_user(event))
            elif unreadable:
                outcomes.append(unreadable_user(event))
            else:
                outcomes.append(_outcome(event, next(rest), stored))
        return outcomes


def _outcome(event: FeedbackEvent, letter: int, stored: Iterator[FeedbackEvent]) -> Outcome:
    if letter == ACCEPTED:
        return Outcome("accepted", event)
    if letter == CONFLICT:
        return conflict_with_other_video(event, next(stored))
    return Outcome("duplicate" if letter == DUPLICATE else "merged", next(stored))
