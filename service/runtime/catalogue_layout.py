"""How a catalogue file is laid out and its ids are hashed; `catalogue_file` reads, `catalogue_writer` writes.

All integers are little-endian. What is where says the header; every part begins at a multiple of 64 bytes.

    header     4096 bytes: `Header` as one line of JSON, filled up with spaces
    records    words of 8 bytes, the first one unused; an entry is
                   duration_s   float64; 0 is unknown
                   members      highest bits first: author (32), tag (24), bytes of the id less one (8);
                                author and tag count names from 1, 0 is unknown
                   the id       UTF-8, filled up with zeros to whole words
    buckets    64 bytes each: 8 marks (uint32), then 8 places (uint32)
    authors    names in UTF-8, one after the other; `author_ends`: where each ends (uint64)
    tags       the same, and `tag_ends`
    checksum   CRC-32 of everything before it, as uint64

The upper half of an id's hash names the bucket where a search begins, the lower half is its mark. What finds
its bucket full is in the next one that is not, so a search ends at a bucket with an empty slot. A place
is a word of the records; 0 is an empty slot. Since the ids themselves are compared, two that share a hash
do no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

HEADER_BYTES: Final = 4096
ALIGNED: Final = 64
SLOTS: Final = 8
"""A bucket's. One cache line is fetched an id."""

FILL: Final = 2.5
"""Entries a bucket, on average: then one look-up of 500 ids in four needs a second round, for one id."""

RECORD_WORDS: Final = 2
"""Of an entry, before its id."""

PADDING_WORDS: Final = 40
"""After the last record: an id of 256 bytes can be compared there without reading past the end."""

MAX_TAGS: Final = (1 << 24) - 1
MAX_AUTHORS: Final = (1 << 32) - 1

_MULTIPLIER: Final = np.uint64(0x9E37_79B9_7F4A_7C15)
_FINAL: Final = np.uint64(0xD6E8_FEB8_6659_FD93)
_HALF: Final = np.uint64(32)
_LONGEST: Final = bytes(256 + 8)
_LOW_BYTES: Final = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
"""Masks of a word's first n bytes."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself."""

    format: Literal["reelrank catalogue 1"] = "reelrank catalogue 1"
    videos: int
    """Different ones."""
    buckets: int
    """In which searches begin; a few more follow, for what the last of them have no room for."""
    cursor: str = ""
    """Where the store's catalogue stood when the file was made from it; what came later is to be read there.
    Empty: the file is from elsewhere, and everything the store has is newer."""
    parts: dict[str, tuple[int, int]]
    """Where each part begins, and its bytes."""


def words_of(ids: Sequence[str]) -> tuple[list[U64], I64]:
    """Ids as words of 8 bytes, filled up with zeros.

    Args:
        ids: at least one; no control characters in them.

    Returns:
        The first word of each id, the second of each, and so on; and how many bytes each id has.
    """
    # One string of all of them, cut at the line feeds by numpy: Python does not see an id twice.
    text = "\n".join(ids).encode()
    flat = np.frombuffer(b"".join((text, b"\n", _LONGEST)), np.uint8)
    ends = (flat[: len(text) + 1] == 10).nonzero()[0]
    starts = np.empty_like(ends)
    starts[0] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    sizes = ends - starts
    anywhere: U64 = np.ndarray((len(flat) - 7,), "<u8", flat, strides=(1,))  # a word at any byte
    words, left = [], sizes
    for _ in range((int(sizes.max()) + 7) >> 3):
        words.append(anywhere.take(starts) & _LOW_BYTES.take(left, mode="clip"))
        starts, left = starts + 8, left - 8
        np.minimum(starts, len(anywhere) - 1, out=starts)
    return words, sizes


def hashes_of(words: Sequence[U64], sizes: I64) -> U64:
    """64 bits an id, the same whatever longer ids are beside it: a word of zeros adds nothing."""
    hashes = sizes.astype(np.uint64)
    factor = 1
    for word in words:
        factor = factor * int(_FINAL) & 0xFFFF_FFFF_FFFF_FFFF
        mixed = word * _MULTIPLIER
        mixed ^= mixed >> _HALF
        mixed *= np.uint64(factor)
        hashes += mixed
    hashes ^= hashes >> _HALF
    hashes *= _MULTIPLIER
    hashes ^= hashes >> _HALF
    return hashes


def homes_of(hashes: U64, buckets: int) -> I64:
    """The bucket where the search for each begins. Ascending hashes have ascending homes."""
    homes: I64 = (((hashes >> _HALF) * np.uint64(buckets)) >> _HALF).view(np.int64)
    return homes
