"""`python -m service demo`: what the service does, shown on a made-up user of a running service."""

from __future__ import annotations

import random
import time
from typing import Any, Final

import httpx2
from rich.console import Console
from rich.table import Table

from models.errors import BadInput

SEED: Final = 20
EVENTS: Final = 12
CANDIDATES: Final = 8
SHORT_S: Final = 15.0
LONG_S: Final = 90.0

console: Final = Console()


def demo(url: str, *, key: str = "") -> None:
    """A slate for somebody unknown, what they then do, what that is worth, and the slate afterwards.

    The user likes short videos: watches those to the end and again, likes some, and skips the long ones. The
    same every time but for the user's id, so that each run begins with an empty history.

    Args:
        url: of the service.
        key: an API key with the rights `label` and `rerank`.

    Raises:
        BadInput: the service is not there, or refuses.
    """
    rng = random.Random(SEED)
    now_ms = int(time.time() * 1000)
    user_id = f"demo-{now_ms}"
    slate: dict[str, Any] = {
        "user_id": user_id,
        "timestamp_ms": now_ms,
        "candidates": [
            {"video_id": f"demo-v{i}", "duration_s": SHORT_S if i % 2 else LONG_S} for i in range(CANDIDATES)
        ],
    }
    events = [_event(rng, user_id, i, now_ms) for i in range(EVENTS)]
    headers = {"authorization": f"Bearer {key}"} if key else {}
    with httpx2.Client(base_url=url, headers=headers, timeout=10.0) as client:
        before = _call(client, "POST", "/rerank", slate)
        console.print(f"\n[bold]1. A slate for {user_id}, whom nobody knows yet[/bold]  POST /rerank")
        _show_slate(before, slate["candidates"])

        labelled = _call(client, "POST", "/label", {"events": events})
        console.print(
            "\n[bold]2. They watch short videos to the end and again, and skip long ones[/bold]  POST /label"
        )
        _show_labels(labelled, events)

        after = _call(client, "POST", "/rerank", slate)
        console.print("\n[bold]3. The same slate a moment later[/bold]  POST /rerank")
        _show_slate(after, slate["candidates"], before)
    console.print(
        f"\nBundle {after['model_version']} · history {before['history_length']} → {after['history_length']} "
        f"exposures · ranked in {after['took_ms']} ms. Try it yourself: {url}/docs\n"
    )


def _event(rng: random.Random, user_id: str, i: int, now_ms: int) -> dict[str, Any]:
    short = i % 2 == 1
    duration_s = SHORT_S if short else LONG_S
    return {
        "event_id": f"{user_id}-{i}",
        "user_id": user_id,
        "video_id": f"demo-seen-{i}",
        "timestamp_ms": now_ms - (EVENTS - i) * 60_000,
        "watch_time_s": round(duration_s * (rng.uniform(1.0, 2.0) if short else rng.uniform(0.0, 0.1)), 1),
        "duration_s": duration_s,
        "like": short and rng.random() < 0.5,
    }


def _call(client: httpx2.Client, method: str, path: str, body: object = None) -> dict[str, Any]:
    try:
        reply = client.request(method, path, json=body)
    except httpx2.TransportError as e:
        raise BadInput(f"No service answers at {client.base_url}: {e}. Start one: make serve.") from e
    answer: dict[str, Any] = reply.json()
    if reply.status_code != 200:
        raise BadInput(f"{method} {path} answers {reply.status_code}: {answer.get('detail')}")
    return answer


def _show_labels(reply: dict[str, Any], events: list[dict[str, Any]]) -> None:
    table = Table("video", "length", "watched", "like", "label", "")
    for event, answer in zip(events, reply["labels"], strict=True):
        label = answer["label"]
        table.add_row(
            event["video_id"],
            f"{event['duration_s']:.0f} s",
            f"{event['watch_time_s']:.1f} s",
            "♥" if event["like"] else "",
            f"{label:.3f}",
            "█" * round(label * 20),
        )
    console.print(table)


def _show_slate(
    reply: dict[str, Any], candidates: list[dict[str, Any]], before: dict[str, Any] | None = None
) -> None:
    durations = {c["video_id"]: c["duration_s"] for c in candidates}
    ranks = {item["video_id"]: item["rank"] for item in before["items"]} if before else {}
    table = Table("rank", "video", "length", "expected watch", "score", "before" if before else "")
    for item in reply["items"]:
        was = ranks.get(item["video_id"])
        table.add_row(
            str(item["rank"]),
            item["video_id"],
            f"{durations[item['video_id']]:.0f} s",
            f"{item['watch_time_s']:.1f} s",
            f"{item['score']:.3f}",
            "" if was is None else f"{was} {_arrow(was, item['rank'])}",
        )
    console.print(table)


def _arrow(was: int, rank: int) -> str:
    return "=" if was == rank else "↑" if was > rank else "↓"
