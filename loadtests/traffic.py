"""Synthetic traffic: users by activity (Zipf), slates of known and new videos, events that never repeat.

From a seed, so that two runs send the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from loadtests.client import post
from models.arrays import F64, I64

NOW_MS: Final = 1_651_330_969_569
ZIPF: Final = 1.1
"""Exponent of the users' activity: a few of them make most of the requests."""
HOT_ZIPF: Final = 1.5
"""For hot keys: the first of 200 users makes two fifths of the requests."""
NEW_VIDEOS: Final = 0.1
"""Share of candidates that the bundle does not know."""


class Traffic:
    """A source of requests.

    Args:
        seed: of everything it makes.
        users: number of users, `u0` the most active.
        videos: ids that the bundle knows.
    """

    def __init__(self, seed: int, users: int, videos: Sequence[str]) -> None:
        self.rng: Final = np.random.default_rng(seed)
        self.users: Final = [f"u{user}" for user in range(users)]
        self._videos = np.array(videos)
        self._count = 0

    def history_events(self, events: int, users: Sequence[str] | None = None) -> list[bytes]:
        """Return that many events for every user, a minute apart, oldest first, as JSON objects."""
        users = self.users if users is None else users
        ages = np.tile(events - np.arange(events), len(users)) * 60_000
        return self.events([user for user in users for _ in range(events)], NOW_MS - ages)

    def histories(self, events: int, batch: int = 500) -> list[bytes]:
        """Return `POST /label` requests that give every user a history."""
        return label_requests(self.history_events(events), batch)

    def slates(self, count: int, candidates: int, *, known: bool = True, zipf: float = ZIPF) -> list[bytes]:
        """Return `POST /rerank` requests of users by activity; `known=False`: each of a cold-start user."""
        users = self._draw_users(count, zipf) if known else [f"new{self._number()}" for _ in range(count)]
        return [post("/rerank", json.dumps(self.slate(user, candidates)).encode()) for user in users]

    def feedback(self, count: int, events: int = 1, *, zipf: float = ZIPF) -> list[bytes]:
        """Return `POST /label` requests with that many new events each, of users by activity."""
        return label_requests(self.events(self._draw_users(count * events, zipf)), events)

    def streams(self, count: int, lines: int) -> list[bytes]:
        """Return `POST /label` requests with an NDJSON body of that many new events each."""
        rows = self.events(self._draw_users(count * lines, ZIPF))
        bodies = (b"\n".join(rows[i : i + lines]) + b"\n" for i in range(0, len(rows), lines))
        return [post("/label", body, "application/x-ndjson") for body in bodies]

    def mixed(self, slates: Sequence[bytes], feedback: Sequence[bytes], share: float = 0.1) -> list[bytes]:
        """Return slates with feedback between them: `share` of the requests, as long as it lasts."""
        labels = iter(feedback)
        requests: list[bytes] = []
        for slate in slates:
            if self.rng.random() < share / (1 - share) and (label := next(labels, None)) is not None:
                requests.append(label)
            requests.append(slate)
        return requests

    def first_user_share(self, zipf: float) -> float:
        """Return the share of requests that the most active user makes."""
        return float(self._activity(zipf)[0])

    def slate(self, user: str, candidates: int) -> dict[str, Any]:
        """Return the body of one `POST /rerank`: duration, author and tag for every candidate."""
        known = min(candidates, len(self._videos))
        videos = self.rng.choice(self._videos, known, replace=False).tolist()
        videos += [f"n{self._number()}" for _ in range(candidates - known)]
        new = (self.rng.random(candidates) < NEW_VIDEOS).tolist()
        durations = np.round(self.rng.uniform(5, 120, candidates), 1).tolist()
        return {
            "user_id": user,
            "timestamp_ms": NOW_MS + 86_400_000,  # later than all events
            "candidates": [
                {
                    "video_id": f"x{video}" if is_new else video,
                    "duration_s": duration,
                    "author_id": str(i % 500),
                    "tag": str(i % 40),
                }
                for i, (video, is_new, duration) in enumerate(zip(videos, new, durations, strict=True))
            ],
        }

    def events(self, users: Sequence[str], at_ms: I64 | None = None) -> list[bytes]:
        """Return one new event a user as JSON objects, at `at_ms` `[N]` or each a millisecond later.

        A user's events come in the order of their times, as a feed sends them.

        Hundreds of thousands are needed, so they are drawn at once and formatted by hand.
        """
        n, first = len(users), self._count + 1
        self._count += n
        times = np.arange(first, first + n) + NOW_MS if at_ms is None else at_ms
        durations = np.round(self.rng.uniform(5, 120, n), 1)
        watched = np.round(durations * self.rng.beta(0.6, 1.2, n), 1)
        likes = np.where(self.rng.random(n) < 0.03, "true", "false")
        videos = self.rng.choice(self._videos, n).tolist()
        columns = (users, videos, times.tolist(), watched.tolist(), durations.tolist(), likes.tolist())
        return [
            (
                f'{{"event_id":"l{number}","user_id":"{user}","video_id":{json.dumps(video)},'
                f'"timestamp_ms":{time_ms},"watch_time_s":{watch},"duration_s":{duration},"like":{like}}}'
            ).encode()
            for number, (user, video, time_ms, watch, duration, like) in enumerate(
                zip(*columns, strict=True), first
            )
        ]

    def _activity(self, zipf: float) -> F64:
        weights = np.arange(1, len(self.users) + 1, dtype=np.float64) ** -zipf
        return np.asarray(weights / weights.sum())

    def _draw_users(self, count: int, zipf: float) -> list[str]:
        return [f"u{u}" for u in self.rng.choice(len(self.users), count, p=self._activity(zipf))]

    def _number(self) -> int:
        self._count += 1
        return self._count


def label_requests(events: Sequence[bytes], batch: int) -> list[bytes]:
    """Return `POST /label` requests with up to `batch` of the events each."""
    return [
        post("/label", b"[" + b",".join(events[i : i + batch]) + b"]") for i in range(0, len(events), batch)
    ]
