"""The catalogue in this process' memory: what is known of a video without asking anybody."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from models.schema import Candidate, FeedbackEvent, Video


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

    def complete(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Candidates with the members they lack, where the catalogue has them. What a request says wins."""
        get = self._videos.get
        return [
            c
            if c.duration_s is not None and c.author_id is not None and c.tag is not None
            else _filled(c, get(c.video_id))
            for c in candidates
        ]

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


def _filled(candidate: Candidate, video: Video | None) -> Candidate:
    if video is None:
        return candidate
    if candidate.duration_s is None and candidate.author_id is None and candidate.tag is None:
        return video
    return Candidate(
        video_id=candidate.video_id,
        duration_s=video.duration_s if candidate.duration_s is None else candidate.duration_s,
        author_id=video.author_id if candidate.author_id is None else candidate.author_id,
        tag=video.tag if candidate.tag is None else candidate.tag,
    )
