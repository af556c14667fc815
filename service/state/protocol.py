"""What the service requires of a store.

`redis` implements it on Redis or Valkey, embedded or by URL; the tests have a reference in memory. Both pass
the contract suite in `tests/contract/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from models.features import NO_HISTORY, Exposures, HistoryEntries
from models.schema import FeedbackEvent, HistoryEntry, Profile, Video


class Outcome(msgspec.Struct, frozen=True):
    """What became of one event."""

    kind: Literal["accepted", "duplicate", "merged", "conflict", "unreadable"]
    event: FeedbackEvent
    """The exposure as it is stored now: after a merge, the merged one. If it is refused, as it was sent."""
    detail: str = ""
    """Why it is refused: a conflict, or what is stored on the user cannot be read."""


def conflict_with_other_user(event: FeedbackEvent) -> Outcome:
    """Refuse an event whose id another user's event already has, without naming that user."""
    detail = f"event_id {event.event_id!r} already names an exposure of another user"
    return Outcome("conflict", event, detail)


def conflict_with_other_video(event: FeedbackEvent, stored: FeedbackEvent) -> Outcome:
    """Refuse an event whose id already names an exposure of another video."""
    detail = (
        f"event_id {event.event_id!r} already names an exposure of video {stored.video_id!r}, "
        f"this one is of {event.video_id!r}"
    )
    return Outcome("conflict", event, detail)


def unreadable_user(event: FeedbackEvent) -> Outcome:
    """Refuse an event of a user on whom something is stored that cannot be read."""
    detail = (
        f"what the store holds on user {event.user_id!r} cannot be read, so the event is not stored; "
        "DELETE /users/{user_id} removes it, then send the event again"
    )
    return Outcome("unreadable", event, detail)


class UserState(msgspec.Struct, frozen=True):
    """Everything that is stored on one user."""

    events: list[FeedbackEvent]
    """Oldest first: sorted by (timestamp_ms, event_id), at most the store's sequence length, the newest."""
    profile: Profile
    history: list[HistoryEntry] = []
    """From before the events, oldest first, at most `HISTORY_LENGTH`, the newest."""


class History(msgspec.Struct, frozen=True):
    """Everything that is stored on one user and a slate is ranked by."""

    exposures: Exposures
    """The sequence, by columns."""
    profile: Profile
    imported: HistoryEntries = NO_HISTORY
    """What was put as the user's history."""


class Store(Protocol):
    """User sequences, profiles and the catalogue. Every method raises `StoreUnavailable` when the store
    does not answer in time, and then nothing of the call may be taken as done."""

    async def record(self, user_id: str, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        """Write one user's events in one atomic step (an import of hundreds may take several); when it
        returns they are stored.

        An `event_id` known within the idempotency window is a `duplicate` if it changes nothing, and is
        `merged` (longest watch time, OR of the flags) if it does; one that names another user or video is
        a `conflict`. Any order and any repetition of the same events leaves the same state. An event of a
        user on whom something unreadable is stored is `unreadable`, and nothing is written.

        Returns:
            One outcome an event, in the same order. A duplicate's or merge's `event` is the merged exposure,
            also when it has already left the sequence.
        """
        ...

    async def record_many(self, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        """Write the events of many users: as if each user's were recorded by itself, in the order in
        which the users first come up. Each user's are atomic, the whole is not: when it raises, some users'
        may be stored. Sending all of it again is safe.

        Returns:
            One outcome an event, in the same order.
        """
        ...

    async def read(self, user_id: str) -> UserState | None:
        """Return everything stored on a user, in one round trip; `None` for an unknown user."""
        ...

    async def history(self, user_id: str) -> History | None:
        """Return what `read` returns, in the form a slate is ranked by."""
        ...

    async def put_profile(self, user_id: str, profile: Profile) -> None:
        """Replace a user's profile features."""
        ...

    async def put_history(self, user_id: str, entries: Sequence[HistoryEntry]) -> None:
        """Replace what is known of a user from before the events, oldest first; the newest `HISTORY_LENGTH`
        are kept. Without entries nothing is known."""
        ...

    async def forget(self, user_id: str) -> bool:
        """Remove sequence, profile, history and idempotency records at once, readable or not. False if there
        was nothing."""
        ...

    async def put_videos(self, videos: Sequence[Video]) -> None:
        """Upsert catalogue entries."""
        ...

    async def videos_since(self, cursor: str) -> tuple[str, list[Video]]:
        """Return the cursor to continue with, and the entries that changed after `cursor` (`""`: all)."""
        ...

    async def risks(self) -> Mapping[str, str]:
        """Return what in the server's configuration may lose events, each with a sentence: see `policy`."""
        ...

    async def ping(self) -> None:
        """Answer, or raise `StoreUnavailable`."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...
