"""`python -m service demo`: what the service does, shown on a synthetic user of a running service."""

from __future__ import annotations

import random
import time
from typing import Final

from msgspec import UNSET
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
    """Rank a slate for a cold-start user, label what the user then does, and rank the slate again.

    The user likes short videos: watches them to the end and again, likes some, and skips long ones. Every run
    is the same but for the user's id, so that each begins with an empty sequence.

    Args:
        url: of the service.
        key: API key with the rights `label` and `rerank`.

    Raises:
        BadInput: no service answers.
        ServiceError: the service refuses.
    """
    rng = random.Random(SEED)
    now_ms = int(time.time() * 1000)
    user_id = f"demo-{now_ms}"
    slate = [
        Candidate(video_id=f"demo-v{i}", duration_s=SHORT_S if i % 2 else LONG_S) for i in range(CANDIDATES)
    ]
    events = [_event(rng, user_id, i, now_ms) for i in range(EVENTS)]
    with Client(url, key=key) as client:
        try:
            before = client.rerank(user_id, slate, timestamp_ms=now_ms)
        except Unreachable as e:
            raise BadInput(f"{e} Start one: make serve.") from e
        _print_slate(f"1. A slate for {user_id}, a cold-start user", before, slate)
        _print_labels("2. The user watches short videos and skips long ones", client.label(events), events)
        after = client.rerank(user_id, slate, timestamp_ms=now_ms)
        _print_slate("3. The same slate a moment later", after, slate, before)
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


def _print_labels(title: str, reply: LabelReply, events: list[FeedbackEvent]) -> None:
    console.print(f"\n[bold]{title}[/bold]  POST /label")
    table = Table("video", "length", "watched", "like", "label", "percentile", "")
    for event, answer in zip(events, reply.labels, strict=True):
        seconds = (f"{event.duration_s:.0f} s", f"{event.watch_time_s:.1f} s")
        bar = "█" * round(answer.label * 20)
        share = "" if answer.percentile is UNSET else f"{answer.percentile:.0%}"
        table.add_row(event.video_id, *seconds, "♥" if event.like else "", f"{answer.label:.3f}", share, bar)
    console.print(table)


def _print_slate(
    title: str, reply: RerankReply, slate: list[Candidate], before: RerankReply | None = None
) -> None:
    console.print(f"\n[bold]{title}[/bold]  POST /rerank")
    durations = {candidate.video_id: candidate.duration_s for candidate in slate}
    ranks = {item.video_id: item.rank for item in before.items} if before else {}
    table = Table("rank", "video", "length", "expected watch", "score", "before" if before else "")
    for item in reply.items:
        seconds = (f"{durations[item.video_id]:.0f} s", f"{item.watch_time_s:.1f} s")
        change = _change(ranks[item.video_id], item.rank) if ranks else ""
        table.add_row(str(item.rank), item.video_id, *seconds, f"{item.score:.3f}", change)
    console.print(table)


def _change(before: int, rank: int) -> str:
    return f"{before} {'=' if before == rank else '↑' if before > rank else '↓'}"
