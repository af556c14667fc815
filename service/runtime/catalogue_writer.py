"""Makes a catalogue file. `catalogue_layout` says what is in it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.errors import BadInput
from models.schema import Video
from service.runtime.catalogue_file import checksum
from service.runtime.catalogue_layout import (
    ALIGNED,
    FILL,
    HEADER_BYTES,
    I64,
    MAX_AUTHORS,
    MAX_TAGS,
    PADDING_WORDS,
    RECORD_WORDS,
    SLOTS,
    U64,
    Header,
    hashes_of,
    homes_of,
    words_of,
)

BATCH: Final = 50_000
"""Entries held as Python objects at a time. Of the others 12 bytes each are kept, and all names."""

MAX_WORDS: Final = (1 << 32) - 1
"""A place has 32 bits: 32 GiB of records."""


def write(path: Path, videos: Iterable[Video], *, cursor: str = "") -> Header:
    """Write a file and put it in the place of the one that is there, which stays until then, and for
    whoever has it open.

    Args:
        path: in a folder that exists.
        videos: of two entries with one id the later one counts.
        cursor: see `Header`.

    Returns:
        What the file says of itself.

    Raises:
        BadInput: it cannot be written, or this is more than a file can hold.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
    try:
        with draft.open("w+b") as file:
            header = _write(file, videos, cursor)
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as e:
        raise BadInput(f"The catalogue {path} cannot be written: {e.strerror}.") from None
    finally:
        draft.unlink(missing_ok=True)
    return header


def _write(file: BinaryIO, videos: Iterable[Video], cursor: str) -> Header:
    parts: dict[str, tuple[int, int]] = {}
    authors, tags = _Names("authors", MAX_AUTHORS), _Names("tags", MAX_TAGS)
    hashes, places = _write_records(file, videos, authors, tags)
    end = file.tell()
    parts["records"] = (HEADER_BYTES, end - HEADER_BYTES)

    order = np.argsort(hashes, kind="stable")  # equal hashes stay in the order they came in
    hashes, places = hashes[order], places[order]
    file.flush()
    latest = _latest(file, hashes, places)
    hashes, places = hashes[latest], places[latest]
    count = len(hashes)
    buckets = max(1, int(count / FILL))
    named = authors.parts() | tags.parts()
    for name, array in ({"buckets": _buckets(hashes, places, buckets)} | named).items():
        parts[name] = _append(file, array)

    header = Header(videos=count, buckets=buckets, cursor=cursor, parts=parts)
    file.seek(0)
    file.write(msgspec.json.encode(header).ljust(HEADER_BYTES))
    file.flush()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as written:
        found = checksum(written, len(written))
    file.seek(0, os.SEEK_END)
    file.write(found.to_bytes(8, "little"))
    return header


def _write_records(
    file: BinaryIO, videos: Iterable[Video], authors: _Names, tags: _Names
) -> tuple[U64, npt.NDArray[np.uint32]]:
    """Write the records, and return hash and place of each."""
    hashes, places = [np.empty(0, np.uint64)], [np.empty(0, np.uint32)]
    file.write(bytes(HEADER_BYTES + 8))  # a header, later, and the word that is no place
    at = 1
    for batch in _batches(videos):
        words, sizes = words_of([video.video_id for video in batch])
        lengths = RECORD_WORDS + (sizes + 7) // 8
        begins = np.cumsum(lengths) - lengths
        records = np.zeros(int(lengths.sum()), np.uint64)
        records[begins] = np.array([video.duration_s or 0.0 for video in batch], np.float64).view(np.uint64)
        records[begins + 1] = (
            (authors.numbers([video.author_id for video in batch]) << np.uint64(32))
            | (tags.numbers([video.tag for video in batch]) << np.uint64(8))
            | (sizes - 1).astype(np.uint64)
        )
        for i, word in enumerate(words, RECORD_WORDS):
            there = lengths > i
            records[begins[there] + i] = word[there]
        if at + len(records) > MAX_WORDS:
            raise BadInput("These are too many videos for one catalogue file: it holds 32 GiB of entries.")
        file.write(records.astype("<u8", copy=False).tobytes())
        hashes.append(hashes_of(words, sizes))
        places.append((begins + at).astype(np.uint32))
        at += len(records)
    file.write(bytes(8 * PADDING_WORDS))
    return np.concatenate(hashes), np.concatenate(places)


def _latest(file: BinaryIO, hashes: U64, places: npt.NDArray[np.uint32]) -> npt.NDArray[np.bool_]:
    """Which entries count: of several with one id the last one. Only equal hashes are looked into."""
    counts = np.ones(len(hashes), np.bool_)
    equal = hashes[1:] == hashes[:-1]
    if not equal.any():
        return counts
    suspects = np.zeros(len(hashes), np.bool_)
    suspects[1:] |= equal
    suspects[:-1] |= equal
    last: dict[bytes, int] = {}
    group = -1
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as written:
        for i in suspects.nonzero()[0].tolist():
            if int(hashes[i]) != group:
                group = int(hashes[i])
                last.clear()
            begin = HEADER_BYTES + 8 * int(places[i])
            at = begin + 8 * RECORD_WORDS
            raw = written[at : at + written[begin + 8] + 1]
            if raw in last:
                counts[last[raw]] = False
            last[raw] = i
    return counts


def _buckets(hashes: U64, places: npt.NDArray[np.uint32], buckets: int) -> npt.NDArray[np.uint32]:
    """The table; hashes ascend. Each entry takes the first free slot at or after its home's first one."""
    count = np.arange(len(hashes))
    slots: I64 = np.maximum.accumulate(homes_of(hashes, buckets) * SLOTS - count) + count
    last = int(slots[-1]) // SLOTS if len(slots) else 0
    table = np.zeros((max(last + 1, buckets) + 1, 2 * SLOTS), np.uint32)  # one that is empty ends each search
    bucket, slot = slots // SLOTS, slots % SLOTS
    table[bucket, slot] = hashes.astype(np.uint32)
    table[bucket, slot + SLOTS] = places
    return table


def _append(file: BinaryIO, array: npt.NDArray[np.generic]) -> tuple[int, int]:
    file.write(bytes(-file.tell() % ALIGNED))
    begin = file.tell()
    file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return begin, file.tell() - begin


def _batches(videos: Iterable[Video]) -> Iterator[list[Video]]:
    rest = iter(videos)
    while batch := list(islice(rest, BATCH)):
        yield batch


class _Names:
    """Names, each kept once and numbered from 1."""

    def __init__(self, what: str, most: int) -> None:
        self._what = what
        self._most = most
        self._numbers: dict[str, int] = {}

    def numbers(self, names: Sequence[str | None]) -> U64:
        """The number of each; 0 for `None`.

        Raises:
            BadInput: these are more names than have numbers.
        """
        known = self._numbers
        found = [0 if name is None else known.setdefault(name, len(known) + 1) for name in names]
        if len(known) > self._most:
            raise BadInput(f"A catalogue file holds at most {self._most:,} different {self._what}.")
        return np.array(found, np.uint64)

    def parts(self) -> dict[str, npt.NDArray[np.generic]]:
        """All of them, one after the other, and where each ends."""
        raw = [name.encode() for name in self._numbers]
        ends = np.cumsum(np.fromiter(map(len, raw), np.int64, len(raw)))
        return {
            self._what: np.frombuffer(b"".join(raw), np.uint8),
            f"{self._what[:-1]}_ends": ends.astype(np.uint64),
        }
