"""What is asked of all of them: histories to put into their stores, and the same bytes to send."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any, Final

from loadtests.load.connections import post

SEED: Final = 20
HISTORY: Final = 50
CANDIDATES: Final = 200
NOW_MS: Final = 1_651_330_969_569

Histories = dict[str, list[dict[str, Any]]]


def histories(users: int, videos: Sequence[str]) -> Histories:
    """Exposures of each user, oldest first, with the members of our own events.

    Args:
        users: how many.
        videos: ids that the bundle knows.
    """
    rng = random.Random(SEED)
    return {
        f"u{user}": [_event(rng, f"u{user}", at, rng.choice(videos)) for at in range(HISTORY)]
        for user in range(users)
    }


def slates(count: int, users: int, videos: Sequence[str]) -> list[dict[str, Any]]:
    """Requests of these users in turn, each of other candidates; one of ten videos is unknown."""
    rng = random.Random(SEED + 1)
    return [_slate(rng, f"u{i % users}", videos) for i in range(count)]


def requests(bodies: Sequence[dict[str, Any]]) -> list[bytes]:
    """As they go out."""
    return [post("/rerank", json.dumps(body).encode()) for body in bodies]


def _event(rng: random.Random, user: str, at: int, video: str) -> dict[str, Any]:
    duration = round(rng.uniform(5, 120), 1)
    return {
        "event_id": f"{user}-{at}",
        "user_id": user,
        "video_id": video,
        "timestamp_ms": NOW_MS - (HISTORY - at) * 60_000,
        "watch_time_s": round(duration * rng.betavariate(0.6, 1.2), 1),
        "duration_s": duration,
        "like": rng.random() < 0.1,
        "author_id": str(rng.randrange(500)),
        "tag": str(rng.randrange(40)),
    }


def _slate(rng: random.Random, user: str, videos: Sequence[str]) -> dict[str, Any]:
    chosen = rng.sample(range(len(videos)), CANDIDATES)
    return {
        "user_id": user,
        "timestamp_ms": NOW_MS,
        "objectives": [],  # the peers tell scores and seconds only
        "candidates": [
            {
                "video_id": f"new{i}" if rng.random() < 0.1 else videos[i],
                "duration_s": round(rng.uniform(5, 120), 1),
                "author_id": str(i % 500),
                "tag": str(i % 40),
            }
            for i in chosen
        ],
    }
