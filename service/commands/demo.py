"""`python -m service demo`: what the service does, shown on a made-up user of a running service."""

from __future__ import annotations

import random
import time
from typing import Final

from rich.console import Console
from rich.table import Table

from models.errors import BadInput
from models.schema import Candidate, FeedbackEvent
from service.client import Client, Unreachable
from service.wire import LabelReply, RerankReply

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
        BadInput: the service is not there.
        ServiceError: it refuses.
    """
    rng = random.Random(SEED)
    now_ms = int(time.time() * 1000)
    user_id = f"demo-{now_ms}"
    candidates = [
        Candidate(video_id=f"demo-v{i}", duration_s=SHORT_S if i % 2 else LONG_S) for i in range(CANDIDATES)
    ]
    events = [_event(rng, user_id, i, now_ms) for i in range(EVENTS)]
    with Client(url, key=key) as client:
        try:
            before = client.rerank(user_id, candidates, timestamp_ms=now_ms)
        except Unreachable as e:
            raise BadInput(f"{e} Start one: make serve.") from e
        console.print(f"\n[bold]1. A slate for {user_id}, whom nobody knows yet[/bold]  POST /rerank")
        _show_slate(before, candidates)

        labelled = client.label(events)
        console.print(
            "\n[bold]2. They watch short videos to the end and again, and skip long ones[/bold]  POST /label"
        )
        _show_labels(labelled, events)

        after = client.rerank(user_id, candidates, timestamp_ms=now_ms)
        console.print("\n[bold]3. The same slate a moment later[/bold]  POST /rerank")
        _show_slate(after, candidates, before)
    console.print(
        f"\nBundle {after.model_version} · history {before.history_length} → {after.history_length} "
        f"exposures · ranked in {after.took_ms} ms. Try it yourself: {url}/docs\n"
    )


def _event(rng: random.Random, user_id: str, i: int, now_ms: int) -> FeedbackEvent:
    short = i % 2 == 1
    duration_s = SHORT_S if short else LONG_S
    return FeedbackEvent(
        event_id=f"{user_id}-{i}",
        user_id=user_id,
        video_id=f"demo-seen-{i}",
        timestamp_ms=now_ms - (EVENTS - i) * 60_000,
        watch_time_s=round(duration_s * (rng.uniform(1.0, 2.0) if short else rng.uniform(0.0, 0.1)), 1),
        duration_s=duration_s,
        like=short and rng.random() < 0.5,
    )


def _show_labels(reply: LabelReply, events: list[FeedbackEvent]) -> None:
    table = Table("video", "length", "watched", "like", "label", "")
    for event, answer in zip(events, reply.labels, strict=True):
        table.add_row(
            event.video_id,
            f"{event.duration_s:.0f} s",
            f"{event.watch_time_s:.1f} s",
            "♥" if event.like else "",
            f"{answer.label:.3f}",
            "█" * round(answer.label * 20),
        )
    console.print(table)


def _show_slate(reply: RerankReply, candidates: list[Candidate], before: RerankReply | None = None) -> None:
    durations = {c.video_id: c.duration_s for c in candidates}
    ranks = {item.video_id: item.rank for item in before.items} if before else {}
    table = Table("rank", "video", "length", "expected watch", "score", "before" if before else "")
    for item in reply.items:
        was = ranks.get(item.video_id)
        table.add_row(
            str(item.rank),
            item.video_id,
            f"{durations[item.video_id]:.0f} s",
            f"{item.watch_time_s:.1f} s",
            f"{item.score:.3f}",
            "" if was is None else f"{was} {_arrow(was, item.rank)}",
        )
    console.print(table)


def _arrow(was: int, rank: int) -> str:
    return "=" if was == rank else "↑" if was > rank else "↓"
