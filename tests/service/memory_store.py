"""The store in a dictionary: a fast double for tests, and the reference that random histories compare
`RedisStore` with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from models.features import HISTORY_LENGTH, Exposures, HistoryEntries
from models.schema import FeedbackEvent, HistoryEntry, Profile, Video
from service.state.codec import normalised
from service.state.keys import SEQUENCE_TTL_S
from service.state.protocol import (
    History,
    Outcome,
    UserState,
    conflict_with_other_user,
    conflict_with_other_video,
)
from tests.service.merge import merge


def wall_clock_ms() -> int:
    """Now, in Unix milliseconds."""
    return time.time_ns() // 1_000_000


class MemoryStore:
    """Implements `Store` in process.

    Args:
        sequence_length: exposures kept a user, the newest.
        idempotency_window_s: for how long an event is known after it was accepted, though it may have left
            the sequence.
        sequence_ttl_s: for how long sequence, profile and history are kept after the last write.
        now_ms: the clock.
    """

    def __init__(
        self,
        *,
        sequence_length: int = 100,
        idempotency_window_s: float = 86_400,
        sequence_ttl_s: float = SEQUENCE_TTL_S,
        now_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self._length = sequence_length
        self._window_ms = idempotency_window_s * 1000
        self._ttl_ms = sequence_ttl_s * 1000
        self._now_ms = now_ms
        # Every value carries the moment it was written at, last.
        self._sequences: dict[str, tuple[dict[str, FeedbackEvent], int]] = {}
        self._profiles: dict[str, tuple[Profile, int]] = {}
        self._histories: dict[str, tuple[list[HistoryEntry], int]] = {}
        self._left: dict[tuple[str, str], FeedbackEvent] = {}
        self._claims: dict[str, tuple[str, int]] = {}
        self._videos: dict[str, tuple[Video, int]] = {}
        self._version = 0

    async def record(self, user_id: str, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        self._expire()
        now = self._now_ms()
        sequence = dict(self._sequence(user_id))
        outcomes = []
        for event in map(normalised, events):
            owner = self._claims.get(event.event_id, (None, 0))[0]
            self._claims.setdefault(event.event_id, (user_id, now))
            if owner not in (None, user_id):
                outcomes.append(conflict_with_other_user(event))
                continue
            known = sequence.get(event.event_id)
            if known is None and owner is not None:
                known = self._left.get((user_id, event.event_id))
            if known is None:
                outcomes.append(Outcome("accepted", event))
            elif known.video_id != event.video_id:
                outcomes.append(conflict_with_other_video(event, known))
                continue
            else:
                event = merge(known, event)
                outcomes.append(Outcome("duplicate" if event == known else "merged", event))
            sequence[event.event_id] = event
        ordered = sorted(sequence.values(), key=lambda e: (e.timestamp_ms, e.event_id))
        surplus = max(0, len(ordered) - self._length)
        self._left.update({(user_id, event.event_id): event for event in ordered[:surplus]})
        if ordered:
            self._sequences[user_id] = ({e.event_id: e for e in ordered[surplus:]}, now)
            if user_id in self._profiles:
                self._profiles[user_id] = (self._profiles[user_id][0], now)
            if user_id in self._histories:
                self._histories[user_id] = (self._histories[user_id][0], now)
        return outcomes

    async def record_many(self, events: Sequence[FeedbackEvent]) -> list[Outcome]:
        users = dict.fromkeys(event.user_id for event in events)
        done = {
            user: iter(await self.record(user, [event for event in events if event.user_id == user]))
            for user in users
        }
        return [next(done[event.user_id]) for event in events]

    async def read(self, user_id: str) -> UserState | None:
        self._expire()
        if not self._knows(user_id):
            return None
        profile = self._profiles.get(user_id, ({}, 0))[0]
        history = self._histories.get(user_id, ([], 0))[0]
        return UserState(list(self._sequence(user_id).values()), dict(profile), history)

    async def history(self, user_id: str) -> History | None:
        state = await self.read(user_id)
        if state is None:
            return None
        imported = HistoryEntries.from_rows(state.history)
        return History(Exposures.from_events(state.events), state.profile, imported)

    async def put_profile(self, user_id: str, profile: Profile) -> None:
        self._profiles[user_id] = (dict(profile), self._now_ms())

    async def put_history(self, user_id: str, entries: Sequence[HistoryEntry]) -> None:
        self._histories.pop(user_id, None)
        if entries:
            self._histories[user_id] = (list(entries[-HISTORY_LENGTH:]), self._now_ms())

    async def forget(self, user_id: str) -> bool:
        self._expire()
        left = [key for key in self._left if key[0] == user_id]
        events = [*self._sequence(user_id), *(event_id for _, event_id in left)]
        found = bool(left) or self._knows(user_id)
        self._sequences.pop(user_id, None)
        self._profiles.pop(user_id, None)
        self._histories.pop(user_id, None)
        for key in left:
            del self._left[key]
        for event_id in events:
            if self._claims.get(event_id, ("", 0))[0] == user_id:
                del self._claims[event_id]
        return found

    async def put_videos(self, videos: Sequence[Video]) -> None:
        for video in videos:
            known = None if video.duration_s is None else round(video.duration_s, 6)
            kept = msgspec.structs.replace(video, duration_s=known)
            if self._videos.get(video.video_id, (None, 0))[0] != kept:
                self._version += 1
                self._videos[video.video_id] = (kept, self._version)

    async def videos_since(self, cursor: str) -> tuple[str, list[Video]]:
        after = int(cursor or 0)
        changed = sorted((version, video.video_id) for video, version in self._videos.values())
        return str(self._version), [self._videos[id_][0] for version, id_ in changed if version > after]

    async def risks(self) -> Mapping[str, str]:
        return {}

    async def ping(self) -> None:
        return None

    async def close(self) -> None:
        return None

    def _sequence(self, user_id: str) -> dict[str, FeedbackEvent]:
        return self._sequences.get(user_id, ({}, 0))[0]

    def _knows(self, user_id: str) -> bool:
        return any(user_id in kept for kept in (self._sequences, self._profiles, self._histories))

    def _expire(self) -> None:
        """Remove what is out of date, by full scans: a reference may be slow but not wrong."""
        now = self._now_ms()
        remembered = now - self._window_ms
        kept = now - self._ttl_ms
        self._claims = {k: v for k, v in self._claims.items() if v[-1] > remembered}
        self._sequences = {k: v for k, v in self._sequences.items() if v[-1] > kept}
        self._profiles = {k: v for k, v in self._profiles.items() if v[-1] > kept}
        self._histories = {k: v for k, v in self._histories.items() if v[-1] > kept}
