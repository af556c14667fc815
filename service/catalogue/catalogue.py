"""The catalogue in this process' memory: what is known of a video without asking anybody."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, Self

import anyio.to_thread
import msgspec

from models.errors import BadInput
from models.features import Candidates
from models.schema import FeedbackEvent, Video
from service.catalogue.file import CatalogueFile

NEAR: Final = 50_000
"""Entries that are kept as objects although the file has them: what slates ask for again and again."""

_NOTHING: Final = Video(video_id="unknown")

_Stamp = tuple[int, int, int]


class VideoSource(Protocol):
    """The part of a store that the catalogue follows."""

    async def videos_since(self, cursor: str) -> tuple[str, list[Video]]:
        """Entries changed after `cursor`, and the next cursor."""
        ...


class Catalogue:
    """A copy of the store's catalogue, at most one poll behind it; over a file, if there is one.

    It exists because a slate of 500 would otherwise cost 500 look-ups in the store. What the store says of
    a video wins over what the file says.
    """

    def __init__(self) -> None:
        self._videos: dict[str, Video] = {}
        self._cursor = ""
        self._path: Path | None = None
        self._stamp: _Stamp | None = None
        self._file: CatalogueFile | None = None
        self._newer: CatalogueFile | None = None
        self._near: dict[str, Video] = {}
        self._beyond = 0

    def __len__(self) -> int:
        return self._beyond + (0 if self._file is None else len(self._file))

    @classmethod
    def over(cls, path: Path) -> Self:
        """A catalogue over a file, see `catalogue_layout`.

        Raises:
            BadInput: it cannot be read, is none of ours, or is damaged.
        """
        catalogue = cls()
        catalogue._path, catalogue._stamp = path, _stamp(path)
        catalogue._file = CatalogueFile.open(path)
        catalogue._cursor = catalogue._file.header.cursor
        return catalogue

    async def look(self) -> None:
        """If another file was put in the place of ours, `follow` takes it over next.

        Raises:
            BadInput: it cannot be used; the old one stays, and this is said once for each file.
        """
        if self._path is None or (stamp := _stamp(self._path)) == self._stamp:
            return
        self._stamp = stamp
        if stamp is None:
            raise BadInput(f"The catalogue {self._path} is gone; what it held is known until the next start.")
        self._newer = await anyio.to_thread.run_sync(CatalogueFile.open, self._path)

    async def follow(self, source: VideoSource) -> None:
        """Take over what changed since the last call.

        Raises:
            StoreUnavailable: and then the copy stays as it was.
        """
        newer = self._newer
        cursor, videos = await source.videos_since(self._cursor if newer is None else newer.header.cursor)
        if newer is not None:  # both at once: what the store says must not be missing for a moment
            self._file, self._videos, self._near, self._beyond = newer, {}, {}, 0
            self._newer = None if self._newer is newer else self._newer
        self._beyond += self._unknown(video.video_id for video in videos)
        for video in videos:
            self._videos[video.video_id] = video
            self._near.pop(video.video_id, None)
        self._cursor = cursor

    def video(self, video_id: str) -> Video:
        """What is known of one video; perhaps nothing but its id."""
        video = self._videos.get(video_id)
        if video is None and self._file is not None:
            video = self._file.video(video_id)
        return video or Video(video_id=video_id)

    def complete(self, candidates: Candidates) -> Candidates:
        """Candidates with the members they lack, where the catalogue has them. What a request says wins."""
        c = candidates
        if not (None in c.duration_s or None in c.author_id or None in c.tag):
            return c
        known: Mapping[str, Video] = self._videos
        if self._file is not None:
            members = zip(c.video_id, c.duration_s, c.author_id, c.tag, strict=True)
            known = self._brought_near(self._file, [v for v, *described in members if None in described])
        if not known:
            return c
        found = [known.get(video_id, _NOTHING) for video_id in c.video_id]
        return Candidates(
            c.video_id,
            [f.duration_s if own is None else own for own, f in zip(c.duration_s, found, strict=True)],
            [f.author_id if own is None else own for own, f in zip(c.author_id, found, strict=True)],
            [f.tag if own is None else own for own, f in zip(c.tag, found, strict=True)],
        )

    def complete_event(self, event: FeedbackEvent) -> FeedbackEvent:
        """The same for an event; its duration may still be unknown afterwards."""
        if event.duration_s is not None and event.author_id is not None and event.tag is not None:
            return event
        video = self._videos.get(event.video_id)
        if video is None and self._file is not None:
            video = self._near.get(event.video_id) or self._file.video(event.video_id)
        if video is None:
            return event
        return msgspec.structs.replace(
            event,
            duration_s=video.duration_s if event.duration_s is None else event.duration_s,
            author_id=video.author_id if event.author_id is None else event.author_id,
            tag=video.tag if event.tag is None else event.tag,
        )

    def _brought_near(self, file: CatalogueFile, ids: Sequence[str]) -> Mapping[str, Video]:
        """Whatever is known of these, as the store says or else the file, and of others."""
        near, changed = self._near, self._videos
        far = [video_id for video_id in ids if video_id not in near]
        if far and len(near) + len(far) > NEAR:
            near.clear()
            far = list(ids)
        if far:
            near.update(file.videos([video_id for video_id in far if video_id not in changed]))
            near.update((video_id, changed[video_id]) for video_id in far if video_id in changed)
        return near

    def _unknown(self, ids: Iterable[str]) -> int:
        """How many of these videos are new to us."""
        new = dict.fromkeys(i for i in ids if i not in self._videos)
        return len(new) - (0 if self._file is None else self._file.count(list(new)))


def _stamp(path: Path) -> _Stamp | None:
    """Tells one file from another that is put in its place; `None` if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
