"""Made-up traffic that looks like some: users of unequal zeal, slates of known and new videos.

From a seed, so that two runs send the same bytes. Nothing in it repeats a body before `DISTINCT` others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from loadtests.load.connections import post

NOW_MS: Final = 1_651_330_969_569
DISTINCT: Final = 2_000
"""Different slates a scenario sends before it begins again; labels never repeat."""

ZIPF: Final = 1.1
"""Exponent of how often the users of a crowd come: a few of them make most of the traffic."""


class Traffic:
    """A source of requests.

    Args:
        seed: of everything it makes.
        users: how many there are.
        videos: ids that the bundle knows; one candidate in ten is new.
    """

    def __init__(self, seed: int, users: int, videos: Sequence[str]) -> None:
        self._rng = np.random.default_rng(seed)
        self._videos = np.array(videos)
        shares = np.arange(1, users + 1) ** -ZIPF
        self._shares = shares / shares.sum()
        self._events = 0

    def histories(self, events: int, batch: int = 500) -> list[bytes]:
        """Requests that give every user a history of that many exposures."""
        rows = [
            self._event(f"u{user}", NOW_MS - (events - at) * 60_000)
            for user in range(len(self._shares))
            for at in range(events)
        ]
        return [post("/label", json.dumps(rows[i : i + batch]).encode()) for i in range(0, len(rows), batch)]

    def slates(self, count: int, candidates: int, *, known: bool = True) -> list[bytes]:
        """`POST /rerank` of users by zeal; `known=False`: of users nobody has met."""
        users = self._users(count) if known else [f"new{self._number()}" for _ in range(count)]
        return [post("/rerank", json.dumps(self._slate(user, candidates)).encode()) for user in users]

    def feedback(self, count: int, events: int = 1) -> list[bytes]:
        """`POST /label` with that many new exposures each, of users by zeal."""
        return [
            post("/label", json.dumps([self._event(user, NOW_MS) for user in self._users(events)]).encode())
            for _ in range(count)
        ]

    def mixed(self, slates: Sequence[bytes], feedback: Sequence[bytes], share: float = 0.1) -> list[bytes]:
        """Slates with feedback between them: `share` of the requests."""
        labels = iter(feedback)
        out: list[bytes] = []
        for slate in slates:
            if self._rng.random() < share and (label := next(labels, None)) is not None:
                out.append(label)
            else:
                out.append(slate)
        return out

    def arrivals(self) -> np.random.Generator:
        """The generator that arrival times are drawn from."""
        return self._rng

    def _users(self, count: int) -> list[str]:
        return [f"u{u}" for u in self._rng.choice(len(self._shares), count, p=self._shares)]

    def _number(self) -> int:
        self._events += 1
        return self._events

    def _event(self, user: str, at_ms: int) -> dict[str, Any]:
        number = self._number()
        duration = round(float(self._rng.uniform(5, 120)), 1)
        return {
            "event_id": f"l{number}",
            "user_id": user,
            "video_id": str(self._rng.choice(self._videos)),
            "timestamp_ms": at_ms + number % 60_000,
            "watch_time_s": round(duration * float(self._rng.beta(0.6, 1.2)), 1),
            "duration_s": duration,
            "like": bool(self._rng.random() < 0.03),
        }

    def _slate(self, user: str, candidates: int) -> dict[str, Any]:
        fresh = min(candidates, len(self._videos))
        chosen = self._rng.choice(self._videos, fresh, replace=False).tolist()
        videos = chosen + [f"n{self._number()}" for _ in range(candidates - fresh)]
        unknown = self._rng.random(candidates) < 0.1
        durations = np.round(self._rng.uniform(5, 120, candidates), 1).tolist()
        return {
            "user_id": user,
            "timestamp_ms": NOW_MS + 60_000,
            "candidates": [
                {"video_id": f"x{v}" if new else v, "duration_s": d, "tag": str(i % 40)}
                for i, (v, new, d) in enumerate(zip(videos, unknown.tolist(), durations, strict=True))
            ],
        }
