"""How a catalogue file is laid out and its ids are hashed; `catalogue_file` reads, `catalogue_writer` writes.

All integers are little-endian. What is where says the header; every part begins at a multiple of 64 bytes.

    header     4096 bytes: `Header` as one line of JSON, filled up with spaces
    records    words of 8 bytes; an entry is
                   duration_s   float64; 0 is unknown
                   members      highest bits first: author (32), tag (24), bytes of the id less one (8);
                                author and tag count names from 1, 0 is unknown
                   the id       UTF-8, filled up with zeros to whole words
               The first record is of no video, all zeros.
    shifts     uint16, one for each bucket
    places     uint32, one for each slot: the word of the records where an entry begins; 0: none
    authors    names in UTF-8, one after the other; `author_ends`: where each ends (uint64)
    tags       the same, and `tag_ends`
    checksum   CRC-32 of everything before it, as uint64

An id's hash names its bucket, and with the bucket's shift its slot. The writer chooses the shifts so that no
two entries share a slot ("hash, displace": Belazzougui, Botelho and Dietzfelbinger, 2009). So a look-up has
the same few steps for each id, known or not: what numpy does best, and one place in memory besides the
record. An id that is not in the file leads to some other's slot or an empty one: ids are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from models.arrays import I64

U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]

HEADER_BYTES: Final = 4096
ALIGNED: Final = 64

RECORD_WORDS: Final = 2
"""Of an entry, before its id."""

FIRST_PLACE: Final = RECORD_WORDS + 1
"""After the record of no video."""

PADDING_WORDS: Final = 40
"""After the last record: an id of 256 bytes can be compared there without reading past the end."""

LONGEST_ID: Final = 256
MAX_TAGS: Final = (1 << 24) - 1
MAX_AUTHORS: Final = (1 << 32) - 1

_ODD: Final = 0x9E37_79B9_7F4A_7C15
_OTHER: Final = 0xD6E8_FEB8_6659_FD93
_WORD: Final = 0xFFFF_FFFF_FFFF_FFFF
_ODD64: Final = np.uint64(_ODD)
_OTHER64: Final = np.uint64(_OTHER)
_HALF: Final = np.uint64(32)
_END: Final = b"\n" + bytes(LONGEST_ID + 8)
_LOW_BYTES: Final = np.array([(1 << 8 * n) - 1 for n in range(9)], np.uint64)
"""Masks of a word's first n bytes."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself."""

    format: Literal["reelrank catalogue 1"] = "reelrank catalogue 1"
    videos: int
    """Different ones."""
    buckets: int
    slots: int
    seed: int
    """Of the hash; another one is taken if two ids share all 64 bits."""
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
    flat = np.frombuffer("\n".join(ids).encode() + _END, np.uint8)
    ends = (flat == 10).nonzero()[0]
    starts = np.empty_like(ends)
    starts[0] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    sizes = ends - starts
    anywhere: U64 = np.ndarray((len(flat) - 7,), "<u8", flat, strides=(1,))  # a word at any byte
    words = [
        anywhere.take(starts + at, mode="clip") & _LOW_BYTES.take(sizes - at, mode="clip")
        for at in range(0, int(sizes.max()), 8)
    ]
    return words, sizes


def hashes_of(words: Sequence[U64], sizes: I64, seed: int) -> U64:
    """64 bits an id, the same whatever longer ids are beside it: a word of zeros adds nothing."""
    hashes = sizes.view(np.uint64) * _OTHER64
    factor, step = 1, _OTHER + 2 * seed
    for word in words:
        factor = factor * step & _WORD
        mixed = word * _ODD64
        mixed ^= mixed >> _HALF
        mixed *= np.uint64(factor)
        hashes += mixed
    hashes ^= hashes >> _HALF
    hashes *= _ODD64
    hashes ^= hashes >> _HALF
    return hashes


def hash_of(raw: bytes, seed: int) -> int:
    """The same of one id, without numpy, whose calls are dear for one."""
    found = len(raw) * _OTHER
    factor, step = 1, _OTHER + 2 * seed
    for at in range(0, len(raw), 8):
        factor = factor * step & _WORD
        mixed = int.from_bytes(raw[at : at + 8], "little") * _ODD & _WORD
        found += (mixed ^ mixed >> 32) * factor
    found &= _WORD
    found = (found ^ found >> 32) * _ODD & _WORD
    return found ^ found >> 32


def slot_of(hashed: int, shift: int, slots: int) -> int:
    """The slot of one."""
    mixed = ((shift * _OTHER & _WORD) ^ hashed) * _ODD & _WORD
    return (mixed >> 32) * slots >> 32


def buckets_of(hashes: U64, buckets: int) -> I64:
    """The bucket of each. Ascending hashes have ascending buckets."""
    found: I64 = (((hashes >> _HALF) * np.uint64(buckets)) >> _HALF).view(np.int64)
    return found


def slots_of(hashes: U64, shifts: U16, slots: int) -> I64:
    """The slot of each, by its bucket's shift."""
    mixed = shifts * _OTHER64 ^ hashes
    mixed *= _ODD64
    mixed >>= _HALF
    mixed *= np.uint64(slots)
    mixed >>= _HALF
    found: I64 = mixed.view(np.int64)
    return found
