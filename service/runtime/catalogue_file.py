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

from models.errors import BadInput
from models.schema import Video
from service.runtime.catalogue_layout import (
    HEADER_BYTES,
    I64,
    RECORD_WORDS,
    SLOTS,
    U64,
    Header,
    hashes_of,
    homes_of,
    words_of,
)

NAMES: Final = 65_536
"""Names of authors, and as many of tags, that a process keeps as strings."""

_CHECKSUM_BYTES: Final = 8
_PIECE: Final = 64 << 20
_BYTE: Final = np.uint64(0xFF)
_TAG: Final = np.uint64(0xFF_FFFF)
_TAG_AT: Final = np.uint64(8)
_AUTHOR_AT: Final = np.uint64(32)

_set = msgspec.structs.force_setattr
_BLANK: Final[Any] = Video(video_id="0")  # Any: the types of msgspec know no `__copy__`


class CatalogueFile:
    """An open file. It stays readable when another is put in its place. Use `open`."""

    def __init__(self, header: Header, mapped: mmap.mmap) -> None:
        def part(name: str, kind: Any) -> npt.NDArray[Any]:
            at, size = header.parts[name]
            return np.frombuffer(mapped, kind, size // np.dtype(kind).itemsize, at)

        self.header = header
        self._records: U64 = part("records", "<u8")
        self._durations: npt.NDArray[np.float64] = part("records", "<f8")
        self._buckets: npt.NDArray[np.uint32] = part("buckets", "<u4").reshape(-1, 2 * SLOTS)
        parts = header.parts
        self._author = _names(mapped, parts["authors"], parts["author_ends"])
        self._tag = _names(mapped, parts["tags"], parts["tag_ends"])

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

    def find(self, ids: Sequence[str]) -> tuple[I64, I64]:
        """Which of the ids are known, as positions in `ids`, and where the record of each begins."""
        if not ids:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        words, sizes = words_of(ids)
        hashes = hashes_of(words, sizes)
        marks, buckets = hashes.astype(np.uint32), homes_of(hashes, self.header.buckets)
        rows, lengths = np.arange(len(ids)), (sizes - 1).view(np.uint64)
        found: list[tuple[I64, I64]] = []
        while len(rows):
            slots = self._buckets.take(buckets, axis=0)
            hits = (slots[:, :SLOTS] == marks[:, None]).ravel().nonzero()[0]
            at = hits // SLOTS
            places = slots.ravel().take(hits + (at + 1) * SLOTS).astype(np.int64)
            whose = rows.take(at)
            same = self._same(places, whose, words, lengths)
            found.append((whose[same], places[same]))
            more = slots[:, -1] != 0
            more[at[same]] = False
            again = more.nonzero()[0]
            rows, marks, buckets = rows.take(again), marks.take(again), buckets.take(again) + 1
        if len(found) == 1:
            return found[0]
        return np.concatenate([r for r, _ in found]), np.concatenate([p for _, p in found])

    def _same(self, places: I64, rows: I64, words: Sequence[U64], lengths: U64) -> npt.NDArray[np.bool_]:
        """Whether the record at a place is of the id of a row."""
        records = self._records
        same: npt.NDArray[np.bool_] = (records.take(places + 1) & _BYTE) == lengths.take(rows)
        for at, word in enumerate(words, RECORD_WORDS):
            mine = word.take(rows)
            equal = records.take(places + at) == mine
            if at > RECORD_WORDS:
                equal |= mine == 0  # the id ends before; that the record's does too, its length says
            same &= equal
        return same

    def videos(self, ids: Sequence[str]) -> dict[str, Video]:
        """The entries of the ids that are known."""
        rows, places = self.find(ids)
        members = self._records.take(places + 1)
        found = {}
        for row, duration, author, tag in zip(
            rows.tolist(),
            self._durations.take(places).tolist(),
            (members >> _AUTHOR_AT).tolist(),
            (members >> _TAG_AT & _TAG).tolist(),
            strict=True,
        ):
            # A copy is not checked as a new entry would be; it was, when the file was made.
            video: Video = _BLANK.__copy__()
            _set(video, "video_id", ids[row])
            if duration:
                _set(video, "duration_s", duration)
            if author:
                _set(video, "author_id", self._author(author))
            if tag:
                _set(video, "tag", self._tag(tag))
            found[ids[row]] = video
        return found


def checksum(data: mmap.mmap, end: int) -> int:
    """Of the first `end` bytes."""
    found = 0
    with memoryview(data) as view:
        for at in range(0, end, _PIECE):
            found = zlib.crc32(view[at : min(at + _PIECE, end)], found)
    return found


def _names(mapped: mmap.mmap, text: tuple[int, int], ends: tuple[int, int]) -> Callable[[int], str]:
    """The n-th name, counted from 1."""
    first = text[0]
    end = memoryview(mapped)[ends[0] : sum(ends)].cast("Q")

    @lru_cache(NAMES)
    def name(number: int) -> str:
        return mapped[first + (end[number - 2] if number > 1 else 0) : first + end[number - 1]].decode()

    return name
