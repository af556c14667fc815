"""The catalogue file: a read-only LMDB database in one file, which all processes of a machine map.

A key is a video id, its value `[duration_s, author_id, tag, published_ms, features]` in MessagePack, without
the last two if they are unknown. The key `\\0`, which no id has, holds the `Header`. LMDB has no checksum,
so the file ends with the CRC-32 of everything before it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Final, Literal, Self

import lmdb
import msgspec

from models.errors import BadInput
from models.schema import FeatureValue, Video

BATCH: Final = 100_000
"""Videos of one transaction while a file is written, which are held as objects."""

MAP_BYTES: Final = 64 << 30
"""Largest file that can be written. It takes address space, neither memory nor disk."""

_HEADER: Final = b"\0"
_MAGIC_AT: Final = slice(16, 20)
_MAGIC: Final = 0xBEEF_C0DE.to_bytes(4, "little")
_CHECKSUM_BYTES: Final = 4
_REBUILD: Final = "Make it again with `python -m service catalogue build`."


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a file as a whole."""

    format: Literal["reelrank catalogue 2"] = "reelrank catalogue 2"
    videos: int
    cursor: str = ""
    """Position in the store's catalogue when the file was made from it; what came later is read from there.
    Empty: the file has another source, and everything in the store is newer."""


class VideoFacts(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of a video whose id is known: the other fields of `Video`."""

    duration_s: float | None = None
    author_id: str | None = None
    tag: str | None = None
    published_ms: int | None = None
    features: dict[str, FeatureValue] | None = None


_decode: Final = msgspec.msgpack.Decoder(VideoFacts).decode
_encode: Final = msgspec.msgpack.Encoder().encode


class CatalogueFile:
    """An open file. It stays readable when another one replaces it. Use `open`.

    LMDB allows one environment per file and process; its file is closed when this object is gone.
    """

    def __init__(self, environment: lmdb.Environment, header: Header) -> None:
        self._environment = environment
        self.header = header

    def __len__(self) -> int:
        return self.header.videos

    @classmethod
    def open(cls, path: Path) -> Self:
        """Verify the checksum of a file, and map it.

        Raises:
            BadInput: it cannot be read, is no catalogue file, or is damaged.
        """
        try:
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                if content[_MAGIC_AT] != _MAGIC:
                    raise BadInput(f"{path} is no catalogue that this build can read. {_REBUILD}")
                if _checksum(content, len(content) - _CHECKSUM_BYTES) != content[-_CHECKSUM_BYTES:]:
                    raise BadInput(
                        f"The catalogue {path} is damaged: it was cut short or changed, so its checksum "
                        f"differs. {_REBUILD}"
                    )
        except (OSError, ValueError) as e:  # ValueError: an empty file cannot be mapped
            reason = e.strerror if isinstance(e, OSError) else "it is empty"
            raise BadInput(f"The catalogue {path} cannot be read: {reason}. {_REBUILD}") from e
        try:
            environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False)
            with environment.begin() as transaction:
                header = msgspec.json.decode(transaction.get(_HEADER) or b"", type=Header)
        except (lmdb.Error, msgspec.DecodeError) as e:
            raise BadInput(f"{path} is no catalogue that this build can read: {e}. {_REBUILD}") from None
        return cls(environment, header)

    def get(self, video_id: str) -> VideoFacts | None:
        """Return what is known of one video; `None` if it is not in the file."""
        return self.lookup((video_id,)).get(video_id)

    def lookup(self, ids: Iterable[str]) -> dict[str, VideoFacts]:
        """Return what is known of many videos, without those that are not in the file."""
        facts = {}
        with self._environment.begin(buffers=True) as transaction:
            get = transaction.get
            for video_id in ids:
                if (value := get(video_id.encode())) is not None:
                    facts[video_id] = _decode(value)
        return facts


class CatalogueWriter:
    """Writes a file, and replaces the one at its path in one step; processes that opened the old one keep it.

    As a context manager: an unfinished file is removed.

    Args:
        path: in a folder that exists.

    Raises:
        BadInput: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unsorted, self._draft = (
            path.with_name(f"{path.name}.{os.getpid()}.{name}") for name in ("unsorted", "draft")
        )
        with self._writable():
            self._environment = _create(self._unsorted)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._environment.close()
        self._unsorted.unlink(missing_ok=True)
        self._draft.unlink(missing_ok=True)

    def add(self, videos: Iterable[Video]) -> None:
        """Add videos. Of two with one id the later one counts.

        Raises:
            BadInput: the file cannot be written, or would be too large.
        """
        rest = iter(videos)
        while batch := list(islice(rest, BATCH)):
            items = [(video.video_id.encode(), _encode(_values(video))) for video in batch]
            items.sort(key=itemgetter(0))
            with self._writable(), self._environment.begin(write=True) as transaction:
                transaction.cursor().putmulti(items)

    def finish(self, *, cursor: str = "") -> Header:
        """Write the file in the order of its ids, which fills its pages, and replace the old one.

        Args:
            cursor: see `Header`.

        Raises:
            BadInput: the file cannot be written.
        """
        with self._writable():
            packed = _create(self._draft)
            with (
                contextlib.closing(packed),
                self._environment.begin() as source,
                packed.begin(write=True) as target,
            ):
                header = Header(videos=source.stat()["entries"], cursor=cursor)
                target.put(_HEADER, msgspec.json.encode(header))
                target.cursor().putmulti(source.cursor(), append=True)
            with self._draft.open("r+b") as file:
                with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                    checksum = _checksum(content, len(content))
                file.seek(0, os.SEEK_END)
                file.write(checksum)
                file.flush()
                os.fsync(file.fileno())
            self._draft.replace(self._path)
        return header

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, lmdb.Error) as e:
            reason = e.strerror if isinstance(e, OSError) else str(e).rpartition(": ")[2]
            raise BadInput(f"The catalogue {self._path} cannot be written: {reason}.") from None


def _values(video: Video) -> tuple[object, ...]:
    values = (video.duration_s, video.author_id, video.tag, video.published_ms, video.features)
    return values if video.features else values[:4] if video.published_ms is not None else values[:3]


def _create(path: Path) -> lmdb.Environment:
    # Durable by one fsync at the end: until then a crash leaves a draft and nothing else.
    return lmdb.open(str(path), subdir=False, map_size=MAP_BYTES, lock=False, sync=False)


def _checksum(content: mmap.mmap, size: int) -> bytes:
    with memoryview(content) as view:
        return zlib.crc32(view[:size]).to_bytes(_CHECKSUM_BYTES, "little")
