"""What a consumer reads from and settles with, whatever keeps the events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec


class Entry(msgspec.Struct, frozen=True):
    """One event as it was added, not decoded."""

    id: bytes
    fields: dict[bytes, bytes]
    """Empty if it was deleted after it had been given out."""
    key: bytes = b""
    """Of its message in Kafka."""


class Output(msgspec.Struct, frozen=True):
    """What became of an entry."""

    entry: bytes
    """Its id."""
    to: Literal["labels", "dead"]
    fields: dict[str, bytes]
    key: bytes = b""
    """Of its message in Kafka: the event's id for a label, that of the entry for a dead letter."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Entries that the group has not settled."""

    lag: int | None
    """Entries that no consumer was given yet; the server does not always know."""
    pending: int
    """Entries that were given out and are not settled."""


class Source(Protocol):
    """Events, as one consumer of a group is given them, and where what becomes of them goes.

    An entry is *pending* from when it was given out until it is settled. Every method but `leave` raises
    `StoreUnavailable` if the server does not answer.
    """

    @property
    def name(self) -> str:
        """Of the stream or topic, for messages."""

    async def prepare(self) -> None:
        """Join the group, or go on after a failure.

        Raises:
            BadInput: what is named cannot be read from or written to.
        """

    async def new(self, count: int) -> Sequence[Entry]:
        """Return at most `count` entries that no consumer was given yet; none after a short wait."""

    async def own(self, after: bytes) -> Entry | None:
        """Return the next entry after an id that is pending with this consumer from an earlier run."""

    async def abandoned(self, cursor: bytes, idle_s: float) -> tuple[bytes, Entry | None, int]:
        """Return where to go on (`0-0`: that was all), an entry that is to be worked on again, and how many
        were found deleted before they were settled."""

    async def deliveries(self, entry: Entry) -> int:
        """Return how often a pending entry was given out."""

    async def settle(self, outputs: Sequence[Output]) -> list[Output]:
        """Write what became of entries, and settle these. Repeated, it does nothing.

        Returns:
            Those that were settled by this call.
        """

    async def backlog(self) -> Backlog:
        """Entries that are not settled."""

    async def trim(self) -> None:
        """Remove events that every group has settled."""

    async def leave(self) -> None:
        """Leave the group and close connections."""
