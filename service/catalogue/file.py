"""A catalogue in a file that all processes of a machine map: it is in memory once, whoever reads it.

As Python objects ten million entries are gigabytes in each worker, and a start that reads them all. Here
a process has page tables of its own and nothing else, and many ids are looked up by a few passes of numpy
over all of them, because one step of Python for each would take longer than the rest.
"""

from __future__ import annotations

import mmap
import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Self

import msgspec
import numpy as np
import numpy.typing as npt

from models.arrays import I64
from models.errors import BadInput
from models.schema import Video
from service.catalogue.layout import (
    HEADER_BYTES,
    MAX_TAGS,
    RECORD_WORDS,
    U16,
    U32,
    U64,
    Header,
    buckets_of,
    hash_of,
    hashes_of,
    slot_of,
    slots_of,
    words_of,
)

NAMES: Final = 65_536
"""Names of authors, and as many of tags, that a process keeps as strings."""

_CHECKSUM_BYTES: Final = 8
_PIECE: Final = 64 << 20

Known = npt.NDArray[np.bool_]

_set = msgspec.structs.force_setattr
_BLANK: Final[Any] = Video(video_id="0")  # Any: the types of msgspec know no `__copy__`


class CatalogueFile:
    """An open file. It stays readable when another is put in its place. Use `open`."""

    def __init__(self, header: Header, mapped: mmap.mmap) -> None:
        def part(name: str, kind: Any) -> npt.NDArray[Any]:
            at, size = header.parts[name]
            return np.frombuffer(mapped, kind, size // np.dtype(kind).itemsize, at)

        self.header = header
        self._mapped = mapped
        self._records: U64 = part("records", "<u8")
        self._durations: npt.NDArray[np.float64] = part("records", "<f8")
        self._shifts: U16 = part("shifts", "<u2")
        self._places: U32 = part("places", "<u4")
        self._author = _names(mapped, header.parts["authors"][0], part("author_ends", "<u8"))
        self._tag = _names(mapped, header.parts["tags"][0], part("tag_ends", "<u8"))

    def __len__(self) -> int:
        return self.header.videos

    @classmethod
    def open(cls, path: Path) -> Self:
        """Map a file and read all of it once, for its checksum.

        Raises:
            BadInput: it cannot be read, is none of ours, or is damaged.
        """
        again = "Make it again with `python -m service catalogue build`."
        try:
            with path.open("rb") as file:
                head = file.read(HEADER_BYTES)
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as e:  # ValueError: an empty file cannot be mapped
            reason = e.strerror if isinstance(e, OSError) else "it is empty"
            raise BadInput(f"The catalogue {path} cannot be read: {reason}. {again}") from None
        try:
            header = msgspec.json.decode(head, type=Header)
        except (msgspec.DecodeError, UnicodeDecodeError) as e:
            raise BadInput(f"{path} is no catalogue that this build can read: {e}. {again}") from None
        end = max((at + size for at, size in header.parts.values()), default=0)
        if len(mapped) != end + _CHECKSUM_BYTES:
            raise BadInput(
                f"The catalogue {path} is damaged: it should have {end + _CHECKSUM_BYTES} bytes and has "
                f"{len(mapped)}. {again}"
            )
        found, said = checksum(mapped, end), int.from_bytes(mapped[end:], "little")
        if found != said:
            raise BadInput(
                f"The catalogue {path} is damaged: its checksum is {found:08x} and should be {said:08x}. "
                f"{again}"
            )
        return cls(header, mapped)

    def find(self, ids: Sequence[str]) -> tuple[I64, Known]:
        """Where the record of each id begins, and which ids are known; the others' places mean nothing.

        Args:
            ids: at least one; no control characters in them.
        """
        header, records = self.header, self._records
        words, sizes = words_of(ids)
        hashes = hashes_of(words, sizes, header.seed)
        shifts = self._shifts.take(buckets_of(hashes, header.buckets))
        places = self._places.take(slots_of(hashes, shifts, header.slots)).astype(np.int64)
        known: Known = records.take(places + 1).astype(np.uint8) == (sizes - 1).astype(np.uint8)
        for at, word in enumerate(words, RECORD_WORDS):
            equal = records.take(places + at) == word
            if at > RECORD_WORDS:
                equal |= word == 0  # this id ends before; that the record's does too, its length says
            known &= equal
        return places, known

    def count(self, ids: Sequence[str]) -> int:
        """How many of the ids are known."""
        return int(self.find(ids)[1].sum()) if ids else 0

    def videos(self, ids: Sequence[str]) -> dict[str, Video]:
        """The entries of the ids that are known."""
        if not ids:
            return {}
        places, known = self.find(ids)
        members = self._records.take(places + 1)
        return {
            video_id: self._entry(video_id, duration, author, tag)
            for video_id, there, duration, author, tag in zip(
                ids,
                known.tolist(),
                self._durations.take(places).tolist(),
                (members >> np.uint64(32)).tolist(),
                (members >> np.uint64(8) & np.uint64(MAX_TAGS)).tolist(),
                strict=True,
            )
            if there
        }

    def video(self, video_id: str) -> Video | None:
        """The entry of one id."""
        header, raw = self.header, video_id.encode()
        hashed = hash_of(raw, header.seed)
        shift = self._shifts.item((hashed >> 32) * header.buckets >> 32)
        place = self._places.item(slot_of(hashed, shift, header.slots))
        members = self._records.item(place + 1)
        begin = header.parts["records"][0] + 8 * (place + RECORD_WORDS)
        if members & 0xFF != len(raw) - 1 or self._mapped[begin : begin + len(raw)] != raw:
            return None
        return self._entry(video_id, self._durations.item(place), members >> 32, members >> 8 & MAX_TAGS)

    def _entry(self, video_id: str, duration: float, author: int, tag: int) -> Video:
        # A copy is not checked as a new entry would be; it was, when the file was made.
        video: Video = _BLANK.__copy__()
        _set(video, "video_id", video_id)
        if duration:
            _set(video, "duration_s", duration)
        if author:
            _set(video, "author_id", self._author(author))
        if tag:
            _set(video, "tag", self._tag(tag))
        return video


def checksum(data: mmap.mmap, end: int) -> int:
    """Of the first `end` bytes."""
    found = 0
    with memoryview(data) as view:
        for at in range(0, end, _PIECE):
            found = zlib.crc32(view[at : min(at + _PIECE, end)], found)
    return found


def _names(mapped: mmap.mmap, begin: int, ends: U64) -> Callable[[int], str]:
    """The n-th name, counted from 1."""

    @lru_cache(NAMES)
    def name(number: int) -> str:
        before = ends.item(number - 2) if number > 1 else 0
        return mapped[begin + before : begin + ends.item(number - 1)].decode()

    return name
