"""Makes a catalogue file. `catalogue_layout` says what is in it."""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import msgspec
import numpy as np
import numpy.typing as npt

from models.arrays import I64
from models.errors import BadInput
from models.schema import Video
from service.catalogue.file import checksum
from service.catalogue.layout import (
    ALIGNED,
    FIRST_PLACE,
    HEADER_BYTES,
    MAX_AUTHORS,
    MAX_TAGS,
    PADDING_WORDS,
    RECORD_WORDS,
    U16,
    U32,
    U64,
    Header,
    hashes_of,
    words_of,
)
from service.catalogue.slots import arranged
from service.catalogue.slots import sizes as slots_for

Array = npt.NDArray[Any]

BATCH: Final = 50_000
"""Entries held as Python objects at a time. Of the others some 30 bytes each are needed, and all names."""

MAX_WORDS: Final = (1 << 32) - 1
"""A place has 32 bits: 32 GiB of records."""

SEEDS: Final = 16
"""As many are tried. By chance one file in 400,000 of ten million entries needs its second."""


class CatalogueWriter:
    """Writes a file and puts it in the place of the one that is there; that one stays until then, and for
    whoever has it open. As a context manager: what was not finished leaves nothing behind.

    Args:
        path: in a folder that exists.

    Raises:
        BadInput: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(f"{path.name}.{os.getpid()}.draft")
        self._authors, self._tags = _Names("authors", MAX_AUTHORS), _Names("tags", MAX_TAGS)
        self._places = [np.empty(0, np.uint32)]
        self._next = FIRST_PLACE
        with self._writable():
            self._file = self._draft.open("w+b")
            # Of the header, which is written last, and of no video.
            self._file.write(bytes(HEADER_BYTES + 8 * FIRST_PLACE))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # a full disk refuses what is still to be flushed, too
            self._file.close()
        self._draft.unlink(missing_ok=True)

    def add(self, videos: Iterable[Video]) -> None:
        """More entries. Of two with one id the later one counts.

        Raises:
            BadInput: the file cannot be written, or this is more than one can hold.
        """
        rest = iter(videos)
        while batch := list(islice(rest, BATCH)):
            records, begins = _records(batch, self._authors, self._tags)
            if self._next + len(records) > MAX_WORDS:
                raise BadInput("These are too many videos for one catalogue file: it holds 32 GiB of them.")
            with self._writable():
                self._file.write(records.astype("<u8", copy=False).tobytes())
            self._places.append((begins + self._next).astype(np.uint32))
            self._next += len(records)

    def finish(self, *, cursor: str = "") -> Header:
        """Write the rest, and take the place.

        Args:
            cursor: see `Header`.

        Returns:
            What the file says of itself.

        Raises:
            BadInput: the file cannot be written, or has too many ids of one hash.
        """
        file = self._file
        with self._writable():
            file.write(bytes(8 * PADDING_WORDS))
            parts = {"records": (HEADER_BYTES, file.tell() - HEADER_BYTES)}
            file.flush()
            seed, count, shifts, table = _arranged(_mapped(file), np.concatenate(self._places))
            slots: dict[str, Array] = {"shifts": shifts, "places": table}
            for name, array in (slots | self._authors.parts() | self._tags.parts()).items():
                parts[name] = _append(file, array)
            end = file.tell()
            header = Header(
                videos=count, buckets=len(shifts), slots=len(table), seed=seed, cursor=cursor, parts=parts
            )
            file.seek(0)
            file.write(msgspec.json.encode(header).ljust(HEADER_BYTES))
            file.flush()
            found = checksum(_mapped(file), end)
            file.seek(end)
            file.write(found.to_bytes(8, "little"))
            file.flush()
            os.fsync(file.fileno())
            self._draft.replace(self._path)
        return header

    @contextlib.contextmanager
    def _writable(self) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            raise BadInput(f"The catalogue {self._path} cannot be written: {e.strerror}.") from None


def _mapped(file: BinaryIO) -> mmap.mmap:
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _records(batch: Sequence[Video], authors: _Names, tags: _Names) -> tuple[U64, I64]:
    """The words of some records, and where each begins."""
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
    return records, begins


def _arranged(written: mmap.mmap, places: U32) -> tuple[int, int, U16, U32]:
    """A seed, how many entries count, the shift of each bucket, the place in each slot."""
    records = np.frombuffer(written, "<u8", (len(written) - HEADER_BYTES) // 8, HEADER_BYTES)
    for seed in range(SEEDS):
        hashes = _hashes(records, places, seed)
        order = np.argsort(hashes, kind="stable")  # equal hashes stay in the order they came in
        hashes, ordered = hashes[order], places[order]
        latest = _latest(records, hashes, ordered)
        hashes, ordered = hashes[latest], ordered[latest]
        if (hashes[1:] == hashes[:-1]).any():
            continue
        buckets, slots = slots_for(len(hashes))
        if (done := arranged(hashes, ordered, buckets, slots)) is not None:
            return seed, len(ordered), *done
    raise BadInput(f"These ids share hashes under {SEEDS} seeds, which does not happen by chance.")


def _hashes(records: U64, places: U32, seed: int) -> U64:
    hashes = np.empty(len(places), np.uint64)
    for begin in range(0, len(places), BATCH):
        at = places[begin : begin + BATCH].astype(np.int64)
        sizes = (records[at + 1] & np.uint64(0xFF)).astype(np.int64) + 1
        words = [
            np.where(sizes > 8 * i, records.take(at + RECORD_WORDS + i), np.uint64(0))
            for i in range((int(sizes.max()) + 7) // 8)
        ]
        hashes[begin : begin + BATCH] = hashes_of(words, sizes, seed)
    return hashes


def _latest(records: U64, hashes: U64, places: U32) -> npt.NDArray[np.bool_]:
    """Which entries count: of several with one id the last one. Only equal hashes are looked into."""
    counts = np.ones(len(hashes), np.bool_)
    equal = hashes[1:] == hashes[:-1]
    suspects = np.zeros(len(hashes), np.bool_)
    suspects[1:] |= equal
    suspects[:-1] |= equal
    last: dict[bytes, int] = {}
    group = -1
    for i in suspects.nonzero()[0].tolist():
        if int(hashes[i]) != group:
            group = int(hashes[i])
            last.clear()
        at = int(places[i])
        size = (int(records[at + 1]) & 0xFF) + 1
        raw = records[at + RECORD_WORDS : at + RECORD_WORDS + (size + 7) // 8].tobytes()
        if raw in last:
            counts[last[raw]] = False
        last[raw] = i
    return counts


def _append(file: BinaryIO, array: Array) -> tuple[int, int]:
    file.write(bytes(-file.tell() % ALIGNED))
    begin = file.tell()
    file.write(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    return begin, file.tell() - begin


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

    def parts(self) -> dict[str, Array]:
        """All of them, one after the other, and where each ends."""
        raw = [name.encode() for name in self._numbers]
        ends = np.cumsum(np.fromiter(map(len, raw), np.int64, len(raw)))
        return {
            self._what: np.frombuffer(b"".join(raw), np.uint8),
            f"{self._what[:-1]}_ends": ends.astype(np.uint64),
        }
