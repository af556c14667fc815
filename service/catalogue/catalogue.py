"""The catalogue of this process: what is known of videos without a call of the store."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

import anyio.to_thread
import msgspec

from models.errors import BadInput
from models.features import Candidates
from models.schema import FeedbackEvent, Video
from service.catalogue.file import CatalogueFile, VideoFacts
from service.state.protocol import Store

CACHED: Final = 50_000
"""Videos of the file that are kept decoded: what slates contain again and again."""

_UNKNOWN: Final = VideoFacts()

_Stamp = tuple[int, int, int]


class Catalogue:
    """A copy of the store's catalogue, at most one poll behind it, over a file if there is one.

    It exists because a slate of 500 would otherwise cost 500 reads of the store. What the store holds of a
    video replaces what the file holds.
    """

    def __init__(self) -> None:
        self._videos: dict[str, Video] = {}
        self._cursor = ""
        self._path: Path | None = None
        self._stamp: _Stamp | None = None
        self._unread = False
        self._file: CatalogueFile | None = None
        self._next_file: CatalogueFile | None = None
        self._cache: dict[str, Video | VideoFacts] = {}
        self._new_videos = 0

    def __len__(self) -> int:
        return self._new_videos + (0 if self._file is None else len(self._file))

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Open a catalogue over a file.

        Raises:
            BadInput: it cannot be read, is no catalogue file, or is damaged.
        """
        catalogue = cls()
        catalogue._path, catalogue._stamp = path, _stamp(path)
        catalogue._file = CatalogueFile.open(path)
        catalogue._cursor = catalogue._file.header.cursor
        return catalogue

    async def check_file(self) -> None:
        """Open the file at our path if it was replaced, or could not be read before; the next `follow` takes
        it over.

        Raises:
            BadInput: it cannot be used; the old one stays. Raised once for each file.
        """
        if self._path is None or ((stamp := _stamp(self._path)) == self._stamp and not self._unread):
            return
        is_new, self._stamp, self._unread = stamp != self._stamp, stamp, False
        if stamp is None:
            raise BadInput(f"The catalogue {self._path} is gone; what it held is known until the next start.")
        try:
            self._next_file = await anyio.to_thread.run_sync(CatalogueFile.open, self._path)
        except BadInput as e:
            self._unread = isinstance(e.__cause__, OSError)
            if is_new:
                raise

    async def follow(self, store: Store) -> None:
        """Take over what changed in the store since the last call.

        Raises:
            StoreUnavailable: and then the copy stays as it was.
        """
        file = self._next_file
        cursor, videos = await store.videos_since(self._cursor if file is None else file.header.cursor)
        if file is not None:  # with the store's videos in one step: none of them may be missing in between
            self._file, self._videos, self._cache, self._new_videos = file, {}, {}, 0
            self._next_file = None if self._next_file is file else self._next_file
        self._new_videos += self._count_new(video.video_id for video in videos)
        for video in videos:
            self._videos[video.video_id] = video
            self._cache.pop(video.video_id, None)
        self._cursor = cursor

    def video(self, video_id: str) -> Video:
        """Return what is known of one video; perhaps nothing but its id."""
        video = self._videos.get(video_id)
        if video is not None or self._file is None:
            return video or Video(video_id=video_id)
        facts = self._file.get(video_id) or _UNKNOWN
        return Video(video_id=video_id, **msgspec.structs.asdict(facts))

    def complete(self, candidates: Candidates) -> Candidates:
        """Fill in what candidates lack and the catalogue knows. What a request holds is kept."""
        c = candidates
        if all(c.duration_s) and all(c.author_id) and all(c.tag):  # none is 0 or empty
            return c
        known: Mapping[str, Video | VideoFacts] = self._videos
        if self._file is not None:
            fields = zip(c.video_id, c.duration_s, c.author_id, c.tag, strict=True)
            known = self._lookup(self._file, [video_id for video_id, *facts in fields if None in facts])
        if not known:
            return c
        facts = [known.get(video_id, _UNKNOWN) for video_id in c.video_id]
        return Candidates(
            c.video_id,
            [f.duration_s if own is None else own for own, f in zip(c.duration_s, facts, strict=True)],
            [f.author_id if own is None else own for own, f in zip(c.author_id, facts, strict=True)],
            [f.tag if own is None else own for own, f in zip(c.tag, facts, strict=True)],
            c.published_ms,
            c.features,
        )

    def complete_published(self, candidates: Candidates) -> Candidates:
        """Fill in publication times that candidates lack and the catalogue knows."""
        c = candidates
        own_ms = c.published_ms or [None] * len(c)
        if None not in own_ms:
            return c
        known: Mapping[str, Video | VideoFacts] = self._videos
        if self._file is not None:
            ids = zip(c.video_id, own_ms, strict=True)
            known = self._lookup(self._file, [video_id for video_id, own in ids if own is None])
        facts = [known.get(video_id, _UNKNOWN) for video_id in c.video_id]
        published = [f.published_ms if own is None else own for own, f in zip(own_ms, facts, strict=True)]
        return replace(c, published_ms=published)

    def complete_features(self, candidates: Candidates) -> Candidates:
        """Fill in the candidates' own features, where the catalogue knows any."""
        known: Mapping[str, Video | VideoFacts] = self._videos
        if self._file is not None:
            known = self._lookup(self._file, list(candidates.video_id))
        return replace(
            candidates, features=[known.get(video_id, _UNKNOWN).features for video_id in candidates.video_id]
        )

    def complete_event(self, event: FeedbackEvent) -> FeedbackEvent:
        """Fill in what an event lacks and the catalogue knows; its duration may remain unknown."""
        if event.duration_s is not None and event.author_id is not None and event.tag is not None:
            return event
        facts: Video | VideoFacts | None = self._videos.get(event.video_id)
        if facts is None and self._file is not None:
            facts = self._cache.get(event.video_id) or self._file.get(event.video_id)
        if facts is None:
            return event
        return msgspec.structs.replace(
            event,
            duration_s=facts.duration_s if event.duration_s is None else event.duration_s,
            author_id=facts.author_id if event.author_id is None else event.author_id,
            tag=facts.tag if event.tag is None else event.tag,
        )

    def _lookup(self, file: CatalogueFile, ids: list[str]) -> Mapping[str, Video | VideoFacts]:
        """What is known of these videos, and of others."""
        cache, changed = self._cache, self._videos
        missing = [video_id for video_id in ids if video_id not in cache]
        if missing and len(cache) + len(missing) > CACHED:
            cache.clear()
            missing = ids
        if missing:
            cache.update(file.lookup(video_id for video_id in missing if video_id not in changed))
            cache.update((video_id, changed[video_id]) for video_id in missing if video_id in changed)
        return cache

    def _count_new(self, ids: Iterable[str]) -> int:
        """How many of these videos are neither in the file nor followed yet."""
        new = dict.fromkeys(video_id for video_id in ids if video_id not in self._videos)
        return len(new) - (0 if self._file is None else len(self._file.lookup(new)))


def _stamp(path: Path) -> _Stamp | None:
    """Distinguishes a file from one that replaces it; `None` if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
