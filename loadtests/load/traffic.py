"""Made-up traffic that looks like some: users of unequal zeal, slates of known and new videos.

From a seed, so that two runs send the same bytes. No event is ever made twice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from loadtests.load.connections import post

NOW_MS: Final = 1_651_330_969_569

ZIPF: Final = 1.1
"""Exponent of how often the users of a crowd come: a few of them make most of the traffic."""
HOT: Final = 1.5
"""The same where it is about hot keys: the first of 200 users makes two fifths of it."""

NDJSON: Final = "application/x-ndjson"


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
        self._count = users
        self._made = 0

    def histories(self, events: int, batch: int = 500) -> list[bytes]:
        """Requests that give every user a history of that many exposures."""
        users = [f"u{user}" for user in range(self._count) for _ in range(events)]
        at_ms = NOW_MS - (events - np.tile(np.arange(events), self._count)) * 60_000
        rows = self._events(users, at_ms)
        return [post("/label", _array(rows[i : i + batch])) for i in range(0, len(rows), batch)]

    def history(self, events: int) -> list[dict[str, Any]]:
        """One user's exposures, as objects."""
        at_ms = NOW_MS - (events - np.arange(events)) * 60_000
        return [json.loads(row) for row in self._events(["bare"] * events, at_ms)]

    def slates(self, count: int, candidates: int, *, known: bool = True, zipf: float = ZIPF) -> list[bytes]:
        """`POST /rerank` of users by zeal; `known=False`: of users nobody has met."""
        users = self._users(count, zipf) if known else [f"new{self._number()}" for _ in range(count)]
        return [post("/rerank", json.dumps(self.slate(user, candidates)).encode()) for user in users]

    def feedback(self, count: int, events: int = 1, *, zipf: float = ZIPF) -> list[bytes]:
        """`POST /label` with that many new exposures each, of users by zeal."""
        rows = self._new(count * events, zipf)
        return [post("/label", _array(rows[i : i + events])) for i in range(0, len(rows), events)]

    def streams(self, count: int, lines: int) -> list[bytes]:
        """`POST /label` with an NDJSON body of that many new exposures each."""
        rows = self._new(count * lines, ZIPF)
        bodies = (b"\n".join(rows[i : i + lines]) + b"\n" for i in range(0, len(rows), lines))
        return [post("/label", body, content_type=NDJSON) for body in bodies]

    def mixed(self, slates: Sequence[bytes], feedback: Sequence[bytes], share: float = 0.1) -> list[bytes]:
        """Slates with feedback between them: `share` of the requests, as long as there is some."""
        labels = iter(feedback)
        out: list[bytes] = []
        for slate in slates:
            if self._rng.random() < share / (1 - share) and (label := next(labels, None)) is not None:
                out.append(label)
            out.append(slate)
        return out

    def arrivals(self) -> np.random.Generator:
        """The generator that arrival times are drawn from."""
        return self._rng

    def first_users_share(self, zipf: float) -> float:
        """Of the requests, how many are of the one user who comes most."""
        return float(self._shares(zipf)[0])

    def slate(self, user: str, candidates: int) -> dict[str, Any]:
        """The body of one `POST /rerank`."""
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

    def _shares(self, zipf: float) -> np.typing.NDArray[np.float64]:
        shares = np.arange(1, self._count + 1, dtype=np.float64) ** -zipf
        return np.asarray(shares / shares.sum())

    def _users(self, count: int, zipf: float) -> list[str]:
        return [f"u{u}" for u in self._rng.choice(self._count, count, p=self._shares(zipf))]

    def _number(self) -> int:
        self._made += 1
        return self._made

    def _new(self, count: int, zipf: float) -> list[bytes]:
        return self._events(self._users(count, zipf), np.full(count, NOW_MS))

    def _events(self, users: Sequence[str], at_ms: np.typing.NDArray[np.int64]) -> list[bytes]:
        """As JSON objects. Hundreds of thousands are needed, so they are drawn at once and put into text."""
        n, first = len(users), self._made + 1
        self._made += n
        durations = np.round(self._rng.uniform(5, 120, n), 1)
        watched = np.round(durations * self._rng.beta(0.6, 1.2, n), 1)
        liked = np.where(self._rng.random(n) < 0.03, "true", "false")
        videos = self._rng.choice(self._videos, n).tolist()
        # Not all in the same millisecond, and none of the future.
        times = at_ms + np.arange(first, first + n) % 60_000
        columns = (users, videos, times.tolist(), watched.tolist(), durations.tolist(), liked.tolist())
        return [
            (
                f'{{"event_id":"l{number}","user_id":"{user}","video_id":{json.dumps(video)},'
                f'"timestamp_ms":{at},"watch_time_s":{w},"duration_s":{d},"like":{likes}}}'
            ).encode()
            for number, (user, video, at, w, d, likes) in enumerate(zip(*columns, strict=True), first)
        ]


def _array(rows: Sequence[bytes]) -> bytes:
    return b"[" + b",".join(rows) + b"]"
