"""The calls that write a body's events, and what their answers mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from models.schema import FeedbackEvent
from service.state import codec
from service.state.keys import claim, user_tag
from service.state.protocol import Outcome, conflict_with_other_user, conflict_with_other_video

MAX_EVENTS: Final = 500
"""Events a call. The server does nothing else meanwhile (some 10 ms at worst), and the answer must come
within the time-out; more events of one user, which only an import has, go in several calls."""

MAX_USERS: Final = 64
"""Users a call, for the same reason: some 50 µs each, and up to 170 where an event is not the newest."""

ACCEPTED: Final = ord("a")
DUPLICATE: Final = ord("d")
CONFLICT: Final = ord("c")

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


def claims_of(groups: Sequence[Group]) -> dict[int, bytes]:
    """Return the claims of all events on their ids, by shard; see `keys.claim`."""
    claims: dict[int, bytearray] = {}
    for user_id, events in groups:
        tag = user_tag(user_id)
        for event in events:
            shard, entry = claim(tag, event.event_id)
            claims.setdefault(shard, bytearray()).extend(entry)
    return {shard: bytes(entries) for shard, entries in claims.items()}


def refused_ids(groups: Sequence[Group], refused: bytes) -> set[tuple[str, str]]:
    """Return user and event id of the claims that were refused, given as from `claims.lua`."""
    entries = {refused[start : start + 12] for start in range(0, len(refused), 12)}
    return {
        (user_id, event.event_id)
        for user_id, events in groups
        for event in events
        if claim(user_tag(user_id), event.event_id)[1] in entries
    }


def without_refused(groups: Sequence[Group], refused: AbstractSet[tuple[str, str]]) -> list[Group]:
    """Return the groups without the events whose ids are another user's, and without groups left empty."""
    kept = (
        (user_id, [e for e in events if (user_id, e.event_id) not in refused]) for user_id, events in groups
    )
    return [(user_id, events) for user_id, events in kept if events]


def outcomes(
    group: Group, refused: AbstractSet[tuple[str, str]], letters: bytes, records: bytes
) -> list[Outcome]:
    """Return what became of one user's events.

    Args:
        group: the user and all events.
        refused: user and event id of those whose id is another user's.
        letters: of the other events, as `sequence.lua` returns them.
        records: of those that are not new, likewise.

    Raises:
        ValueError: the records cannot be read.
    """
    user_id, events = group
    if letters.count(ACCEPTED) == len(events):
        return [Outcome("accepted", event) for event in events]
    stored = iter(codec.decode_events(user_id, records) if records else ())
    rest = iter(letters)
    return [
        conflict_with_other_user(event)
        if (user_id, event.event_id) in refused
        else _outcome(event, next(rest), stored)
        for event in events
    ]


def _outcome(event: FeedbackEvent, letter: int, stored: Iterator[FeedbackEvent]) -> Outcome:
    if letter == ACCEPTED:
        return Outcome("accepted", event)
    if letter == CONFLICT:
        return conflict_with_other_video(event, next(stored))
    return Outcome("duplicate" if letter == DUPLICATE else "merged", next(stored))
