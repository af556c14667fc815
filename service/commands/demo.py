"""`python -m service demo`: what the service does, shown on two users of a running service in one screen."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from msgspec import UNSET
from rich.console import Console
from rich.table import Table

from models.errors import BadInput
from models.schema import Candidate, FeedbackEvent
from service.client import Client, Unreachable
from service.wire import Item, Label, RerankReply

DURATION_S: Final = 24.0
"""Of every video, so that nothing but taste can order them."""

TASTES: Final = {"ann": "39", "bob": "6"}
"""The tag that each user likes; they skip the other's. Ids are of KuaiRand, on which the released bundle was
fitted: a bundle of another log knows none of them, and may see no difference."""

SEEN: Final = (
    ("6497", "8004185", "39"), ("252", "4645121", "6"), ("1457", "8075929", "39"), ("2362", "5281979", "6"),
    ("2640", "7014464", "39"), ("3297", "5281979", "6"), ("120", "6166697", "39"), ("156", "5623243", "6"),
    ("3866", "7014464", "39"), ("213", "5623243", "6"),
)  # fmt: skip
"""Video, author and tag of what both users are shown."""

NEXT: Final = (
    ("3906", "8075929", "39"), ("3970", "5281979", "6"), ("160", "8004185", "39"), ("308", "5623243", "6"),
    ("7170", "8075929", "39"), ("5451", "5281979", "6"), ("3290", "8004185", "39"), ("912", "5623243", "6"),
)  # fmt: skip
"""The candidates of their slates."""

HATED: Final = ("94", "8075929", "39")

console: Final = Console(record=True)


def demo(url: str, *, key: str = "", svg: Path | None = None) -> None:
    """Label what two users with opposite tastes do with ten videos, and rank eight others for each of them;
    then one hates a video, and its author sinks.

    Every run is the same but for the users' ids, so that each begins with empty sequences.

    Args:
        url: of the service.
        key: API key with the rights `label` and `rerank`.
        svg: where to write a picture of what was printed.

    Raises:
        BadInput: no service answers, or the picture cannot be written.
        ServiceError: the service refuses.
    """
    now_ms = int(time.time() * 1000)
    users = {name: f"demo-{name}-{now_ms}" for name in TASTES}
    candidates = [
        Candidate(video_id=video, duration_s=DURATION_S, author_id=author, tag=tag)
        for video, author, tag in NEXT
    ]
    with Client(url, key=key) as client:

        def slate(user_id: str) -> RerankReply:
            return client.rerank(user_id, candidates, timestamp_ms=now_ms)

        try:
            before = slate(f"demo-new-{now_ms}")
        except Unreachable as e:
            raise BadInput(f"{e} Start one: make serve.") from e
        events = {name: _events(users[name], taste, now_ms) for name, taste in TASTES.items()}
        labels = {name: client.label(shown).labels for name, shown in events.items()}
        _print_labels(events, labels)
        slates = {"new user": before} | {name: slate(user_id) for name, user_id in users.items()}
        hate = _event(users["ann"], HATED, now_ms, watched_s=1.0, hate=True)
        (disliked,) = client.label([hate]).labels
        after = slates["ann, a hate later"] = slate(users["ann"])
        _print_slates(slates)
    video, author, tag = HATED
    console.print(
        f"The hate, of video {video}, has label {disliked.label:.3f}; its author {author} sinks, its tag "
        f"{tag} a little.\n"
        f"Bundle {after.model_version} · history {before.history_length} → {after.history_length} "
        f"exposures · ranked in {after.took_ms} ms.\nTry it yourself: {url}/docs"
    )
    if svg is not None:
        write_picture(svg)


def write_picture(path: Path) -> None:
    """Write what was printed as SVG.

    Raises:
        BadInput: it cannot be written.
    """
    try:
        console.save_svg(str(path), title="python -m service demo")
    except OSError as e:
        raise BadInput(f"{path} cannot be written: {e.strerror}.") from None


def _events(user_id: str, taste: str, now_ms: int) -> list[FeedbackEvent]:
    """Watch videos of the taste to the end and beyond, like every other one, and skip the rest."""
    events = []
    for i, video in enumerate(SEEN):
        at_ms, liked = now_ms - (len(SEEN) - i + 1) * 60_000, video[2] == taste
        watched_s = DURATION_S + 1.7 * i if liked else 0.4 + 0.2 * i
        events.append(_event(user_id, video, at_ms, watched_s=watched_s, like=liked and i % 4 < 2))
    return events


def _event(
    user_id: str,
    video: tuple[str, str, str],
    at_ms: int,
    *,
    watched_s: float,
    like: bool = False,
    hate: bool = False,
) -> FeedbackEvent:
    video_id, author_id, tag = video
    return FeedbackEvent(
        event_id=f"{user_id}-{video_id}",
        user_id=user_id,
        video_id=video_id,
        timestamp_ms=at_ms,
        watch_time_s=round(watched_s, 1),
        duration_s=DURATION_S,
        author_id=author_id,
        tag=tag,
        like=like,
        hate=hate,
    )


def _print_labels(events: Mapping[str, list[FeedbackEvent]], labels: Mapping[str, list[Label]]) -> None:
    title = f"1. Ten videos of {DURATION_S:.0f} s and their labels  POST /label"
    table = Table("video", "tag", title=title, title_justify="left")  # what fits into 80 characters
    for name, taste in TASTES.items():
        table.add_column(f"{name} likes {taste}", justify="right")
        table.add_column("label, percentile", min_width=15)
    for shown, *answers in zip(SEEN, *(zip(events[n], labels[n], strict=True) for n in TASTES), strict=True):
        cells: list[str] = []
        for event, label in answers:
            share = "" if label.percentile is UNSET else f" {label.percentile:3.0%}"
            heart = "♥" if event.like else " "
            bar = "█" * round(label.label * 12)
            cells += [f"{heart} {event.watch_time_s:.1f} s", f"{label.label:.3f}{share} {bar}"]
        table.add_row(shown[0], shown[2], *cells)
    console.print(table)


def _print_slates(slates: Mapping[str, RerankReply]) -> None:
    title = "2. Rank and score of eight others  POST /rerank"
    table = Table("video", "author", "tag", title=title, title_justify="left")
    for name in slates:
        table.add_column(name, justify="right")
    items: list[dict[str, Item]] = [
        {item.video_id: item for item in reply.items} for reply in slates.values()
    ]
    shown = {video[0]: video for video in NEXT}
    for first in slates["ann"].items:
        ranked = [by_video[first.video_id] for by_video in items]
        table.add_row(*shown[first.video_id], *(f"{item.rank}  {item.score:.3f}" for item in ranked))
    console.print(table)
