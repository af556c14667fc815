"""What is sent to a server for a body's events, and what its answer means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from models.schema import FeedbackEvent
from service.state import codec
from service.state.keys import claim, user_tag
from service.state.protocol import Outcome, conflict_with_other_user, conflict_with_other_video

STEP: Final = 500
"""Events a call. The server does nothing else meanwhile (some 10 ms at worst), and the answer must come
within the time-out; more events of one user, which only an import has, go in several steps."""

USERS: Final = 64
"""Users a call, for the same reason: some 40 µs each, and 150 where an event is not newer than all before."""

ACCEPTED: Final = ord("a")
DUPLICATE: Final = ord("d")
CONFLICT: Final = ord("c")
ANOTHERS: Final = ord("n")

Group = tuple[str, list[FeedbackEvent]]
"""A user, and events of that user, normalised."""


def by_user(events: Sequence[FeedbackEvent]) -> dict[str, list[FeedbackEvent]]:
    """One group a user, in the order of the body."""
    groups: dict[str, list[FeedbackEvent]] = {}
    for event in events:
        if (group := groups.get(event.user_id)) is None:
            groups[event.user_id] = [event]
        else:
            group.append(event)
    return groups


def steps(groups: Mapping[str, Sequence[FeedbackEvent]]) -> Iterator[list[Group]]:
    """The groups, a call's worth at a time."""
    step: list[Group] = []
    room = STEP
    for user_id, events in groups.items():
        for at in range(0, len(events), STEP):
            part = list(map(codec.normalised, events[at : at + STEP]))
            if len(part) > room or len(step) == USERS:
                yield step
                step, room = [], STEP
            step.append((user_id, part))
            room -= len(part)
    if step:
        yield step


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of a step's events on their ids."""

    memories: dict[int, bytes]
    """By the memory they go to, see `keys.claim`; in the order of the events."""
    places: list[bytes]
    """For each group, for each event: in which of `memories` its claim is, from 1."""

    @classmethod
    def of(cls, step: Sequence[Group]) -> Claims:
        """Every event of a step claims its id."""
        numbers: dict[int, int] = {}
        claims: list[list[bytes]] = []
        places = []
        for user_id, events in step:
            tag, at = user_tag(user_id), bytearray()
            for event in events:
                memory, entry = claim(tag, event.event_id)
                if (number := numbers.get(memory)) is None:
                    number = numbers[memory] = len(claims) + 1
                    claims.append([entry])
                else:
                    claims[number - 1].append(entry)
                at.append(number)
            places.append(bytes(at))
        return cls(dict(zip(numbers, map(b"".join, claims), strict=True)), places)

    def letters(self, answers: Sequence[bytes]) -> list[bytes]:
        """A letter for each event of each group, from the answers of `memories`."""
        rest = [iter(answer) for answer in answers]
        return [bytes(next(rest[number - 1]) for number in group) for group in self.places]


def outcomes(user_id: str, events: Sequence[FeedbackEvent], kinds: bytes, records: bytes) -> list[Outcome]:
    """What became of one user's events, from the two strings of `sequence.lua`.

    Raises:
        ValueError: the records cannot be read.
    """
    if kinds.count(ACCEPTED) == len(events):
        return [Outcome("accepted", event) for event in events]
    held = iter(codec.decode_events(user_id, records))
    return [_outcome(event, kind, held) for event, kind in zip(events, kinds, strict=True)]


def _outcome(event: FeedbackEvent, kind: int, held: Iterator[FeedbackEvent]) -> Outcome:
    if kind == ACCEPTED:
        return Outcome("accepted", event)
    if kind == ANOTHERS:
        return conflict_with_other_user(event)
    if kind == CONFLICT:
        return conflict_with_other_video(event, next(held))
    return Outcome("duplicate" if kind == DUPLICATE else "merged", next(held))
