"""The catalogue in this process' memory: what is known of a video without asking anybody."""

from __future__ import annotations

from typing import Final, Protocol

import msgspec

from models.features import Candidates
from models.schema import FeedbackEvent, Video

_NOTHING: Final = Video(video_id="unknown")


class VideoSource(Protocol):
    """The part of a store that the catalogue follows."""

    async def videos_since(self, cursor: str) -> tuple[str, list[Video]]:
        """Entries changed after `cursor`, and the next cursor."""
        ...


class Catalogue:
    """A copy of the store's catalogue, at most one poll behind it.

    It exists because a slate of 500 would otherwise cost 500 look-ups in the store.
    """

    def __init__(self) -> None:
        self._videos: dict[str, Video] = {}
        self._cursor = ""

    def __len__(self) -> int:
        return len(self._videos)

    async def follow(self, source: VideoSource) -> None:
        """Take over what changed since the last call.

        Raises:
            StoreUnavailable: and then the copy stays as it was.
        """
        cursor, videos = await source.videos_since(self._cursor)
        for video in videos:
            self._videos[video.video_id] = video
        self._cursor = cursor

    def video(self, video_id: str) -> Video:
        """What is known of one video; perhaps nothing but its id."""
        return self._videos.get(video_id) or Video(video_id=video_id)

    def complete(self, candidates: Candidates) -> Candidates:
        """Candidates with the members they lack, where the catalogue has them. What a request says wins."""
        c = candidates
        lacking = None in c.duration_s or None in c.author_id or None in c.tag
        if not lacking or not self._videos:
            return c
        known = [self._videos.get(video_id, _NOTHING) for video_id in c.video_id]
        return Candidates(
            c.video_id,
            [k.duration_s if own is None else own for own, k in zip(c.duration_s, known, strict=True)],
            [k.author_id if own is None else own for own, k in zip(c.author_id, known, strict=True)],
            [k.tag if own is None else own for own, k in zip(c.tag, known, strict=True)],
        )

    def complete_event(self, event: FeedbackEvent) -> FeedbackEvent:
        """The same for an event; its duration may still be unknown afterwards."""
        if event.duration_s is not None and event.author_id is not None and event.tag is not None:
            return event
        video = self._videos.get(event.video_id)
        if video is None:
            return event
        return msgspec.structs.replace(
            event,
            duration_s=video.duration_s if event.duration_s is None else event.duration_s,
            author_id=video.author_id if event.author_id is None else event.author_id,
            tag=video.tag if event.tag is None else event.tag,
        )
