"""Exposures, videos and profiles as the bytes a store keeps. Integers are big-endian.

One exposure is one *record* (33 bytes with two raw 8-byte ids and no context); records follow each other
without separators, and the user is not in them: the key says whose they are.

    flags          1   bits 0-5 are `FLAGS` in order, bit 7 says that context follows the video
    timestamp_ms   6
    watch_time_s   4   float32
    duration_s     4   float32; 0 is unknown (a known one is above 0)
    event_id       id
    video_id       id
    [context       1   bit i says that the i-th of `CONTEXT` follows
     ...           id  each]

An *id* is one byte that says what follows, then that:

    0-239    text of 1-240 bytes (one more than the byte says)
    240-246  a decimal number below 10^15 in 1-7 bytes; numbers are what most ids are, at half the bytes
    255      a second byte, then text of 1-256 bytes (one more than the second byte says)

Equal ids have equal bytes. `records.lua` reads and merges the same records; `tests/contract` holds
both to the same answers. A change of this layout needs a new `FORMAT`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import lru_cache
from itertools import product
from operator import attrgetter
from typing import Final

import msgspec
import numpy as np

from models.features import Exposures
from models.schema import FLAGS, FeedbackEvent, Profile, Video

FORMAT: Final = 2
"""First byte of a stored sequence as `append.lua` writes it; `HEADS` has the formats that are read."""

HEADS: Final = {1: 1, FORMAT: 7}
"""Bytes before the first record, by format. 1 had a format byte only; 2 has after it how many records there
are (4 bytes) and how long the last one is (2): a script that adds to them need not walk through them."""

CONTEXT: Final = ("session_id", "tab", "device", "author_id", "tag")
"""Optional members of an event, in the order of the bits that say which are there."""

_HEAD: Final = struct.Struct(">BHIff")  # flags, timestamp_ms as 16 + 32 bits, watch_time_s, duration_s
_HEAD_BYTES: Final = np.arange(_HEAD.size)
_HEAD_COLUMNS: Final = np.dtype(
    [("flags", "u1"), ("high", ">u2"), ("low", ">u4"), ("watch_time_s", ">f4"), ("duration_s", ">f4")]
)
_FLAG_SHIFTS: Final = np.arange(len(FLAGS), dtype=np.uint8)
_SESSION, _TAB, _DEVICE, _AUTHOR, _TAG = (1 << bit for bit in range(len(CONTEXT)))
_VIDEO: Final = struct.Struct(">Bf")
_FLOAT: Final = struct.Struct(">f")
_HAS_CONTEXT: Final = 0x80
_SMALLEST: Final = 2.0**-126  # below it, float32 has fewer digits

_BYTES: Final = [bytes((i,)) for i in range(256)]

_flags_of: Final = attrgetter(*FLAGS)
_context_of: Final = attrgetter(*CONTEXT)
_NO_CONTEXT: Final = (None,) * len(CONTEXT)

_set = msgspec.structs.force_setattr

_BLANK: Final = FeedbackEvent(event_id="0", user_id="0", video_id="0", timestamp_ms=0, watch_time_s=0.0)

_TEMPLATES: Final = [
    msgspec.structs.replace(_BLANK, **dict(zip(FLAGS, reversed(bits), strict=True)))
    for bits in product((False, True), repeat=len(FLAGS))
]
"""An event for each of the 64 combinations of flags, at the index that `flags` has."""


_FLAG_BITS: Final = {
    bits: sum(bit << place for place, bit in enumerate(bits))
    for bits in product((False, True), repeat=len(FLAGS))
}
"""The byte for what `_flags_of` gives."""


@lru_cache(maxsize=1 << 15)
def seconds(value: float) -> float:
    """The shortest decimal that is the same float32: 48.4 for 48.4 and for 48.400001525878906.

    Seconds that went through a store come back as they were sent, up to 7 digits. What is too small for
    float32 is 0; no duration is.
    """
    if value < _SMALLEST:
        return 0.0
    raw = _FLOAT.pack(value)
    (value,) = _FLOAT.unpack(raw)
    for digits in (6, 7, 8):
        short = float(f"{value:.{digits}g}")
        if _FLOAT.pack(short) == raw:
            return short
    return float(f"{value:.9g}")


def normalised(event: FeedbackEvent) -> FeedbackEvent:
    """The event as every store hands it back: seconds in float32 precision."""
    watch, duration = seconds(event.watch_time_s), event.duration_s
    short = None if duration is None else seconds(duration)
    if watch == event.watch_time_s and short == duration:
        return event
    return msgspec.structs.replace(event, watch_time_s=watch, duration_s=short)


def pack_id(text: str) -> bytes:
    """One id, as the module's docstring lays it out."""
    if len(text) <= 15 and text.isascii() and text.isdigit() and (text[0] != "0" or text == "0"):
        number = int(text)
        size = max(1, (number.bit_length() + 7) // 8)
        return bytes((239 + size,)) + number.to_bytes(size)
    raw = text.encode()
    return (_BYTES[len(raw) - 1] if len(raw) <= 240 else b"\xff" + _BYTES[len(raw) - 1]) + raw


_pack_known: Final = lru_cache(maxsize=1 << 15)(pack_id)
"""For ids that come again and again, as those of videos do."""


def unpack_id(data: bytes, at: int) -> tuple[str, int]:
    """The id at `at`, and where the next thing begins."""
    kind = data[at]
    at += 1
    if kind < 240:
        end = at + kind + 1
    elif kind < 247:
        end = at + kind - 239
        return str(int.from_bytes(data[at:end])), end
    elif kind == 255:
        end = at + 2 + data[at]
        at += 1
    else:
        raise ValueError(f"no id begins with byte {kind}")
    return data[at:end].decode(), end


def encode_event(event: FeedbackEvent) -> bytes:
    """One record."""
    flags = _FLAG_BITS[_flags_of(event)]
    context, known = b"", _context_of(event)
    if known != _NO_CONTEXT:
        mask, context = _encode_optional(known)
        flags |= _HAS_CONTEXT
        context = _BYTES[mask] + context
    at = event.timestamp_ms
    head = _HEAD.pack(flags, at >> 32, at & 0xFFFF_FFFF, event.watch_time_s, event.duration_s or 0.0)
    return head + pack_id(event.event_id) + _pack_known(event.video_id) + context


def records_at(stored: bytes) -> int:
    """Where the records of a stored sequence begin.

    Raises:
        ValueError: it is of a format that this build does not know.
    """
    head = HEADS.get(stored[0]) if stored else None
    if head is None:
        raise ValueError(f"a sequence that begins with {stored[:1]!r}")
    return head


def decode_events(user_id: str, data: bytes, at: int = 0) -> list[FeedbackEvent]:
    """Every record of `data` from `at` on, as events of `user_id`.

    Raises:
        ValueError: these bytes are not whole records.
    """
    # Copying a template and setting what differs skips the checks of the constructor: they were made
    # when the event came in, and would take most of the time of a read.
    unpack, size = _HEAD.unpack_from, len(data)
    events = []
    try:
        while at < size:
            flags, high, low, watch, duration = unpack(data, at)
            event = _TEMPLATES[flags & 0x3F].__copy__()
            event_id, at = unpack_id(data, at + _HEAD.size)
            video_id, at = unpack_id(data, at)
            _set(event, "user_id", user_id)
            _set(event, "event_id", event_id)
            _set(event, "video_id", video_id)
            _set(event, "timestamp_ms", (high << 32) | low)
            _set(event, "watch_time_s", seconds(watch))
            if duration:
                _set(event, "duration_s", seconds(duration))
            if flags & _HAS_CONTEXT:
                mask = data[at]
                at += 1
                for bit, name in enumerate(CONTEXT):
                    if mask >> bit & 1:
                        value, at = unpack_id(data, at)
                        _set(event, name, value)
            events.append(event)
    except (struct.error, IndexError, UnicodeDecodeError) as e:
        raise ValueError(f"a record breaks off or is damaged at byte {at} of {size}: {e}") from e
    if at != size:
        raise ValueError(f"the last record needs {at - size} bytes more than the {size} there are")
    return events


def decode_exposures(data: bytes, at: int = 0) -> Exposures:
    """The same records by columns, for who needs neither events nor their ids: a third of the time.

    Raises:
        ValueError: these bytes are not whole records.
    """
    size, head_size, heads = len(data), _HEAD.size, []
    videos: list[str] = []
    authors: list[str | None] = []
    tags: list[str | None] = []
    tabs: list[str | None] = []
    try:
        while at < size:
            heads.append(at)
            has_context = data[at] >= _HAS_CONTEXT
            video_id, at = unpack_id(data, _past_id(data, at + head_size))
            videos.append(video_id)
            author = tag = tab = None
            if has_context:
                mask = data[at]
                at += 1
                if mask & _SESSION:
                    at = _past_id(data, at)
                if mask & _TAB:
                    tab, at = unpack_id(data, at)
                if mask & _DEVICE:
                    at = _past_id(data, at)
                if mask & _AUTHOR:
                    author, at = unpack_id(data, at)
                if mask & _TAG:
                    tag, at = unpack_id(data, at)
            authors.append(author)
            tags.append(tag)
            tabs.append(tab)
    except (IndexError, UnicodeDecodeError) as e:
        raise ValueError(f"a record breaks off or is damaged at byte {at} of {size}: {e}") from e
    if at != size:
        raise ValueError(f"the last record needs {at - size} bytes more than the {size} there are")
    fixed = np.frombuffer(data, np.uint8)[np.add.outer(np.array(heads, np.intp), _HEAD_BYTES)]
    head = fixed.view(_HEAD_COLUMNS)[:, 0]
    feedback = np.empty((len(heads), 2 + len(FLAGS)), np.float32)
    feedback[:, 0] = head["watch_time_s"]
    feedback[:, 1] = head["duration_s"]
    feedback[:, 1][feedback[:, 1] == 0] = np.nan
    feedback[:, 2:] = head["flags"][:, None] >> _FLAG_SHIFTS & 1
    timestamp_ms = (head["high"].astype(np.int64) << 32) + head["low"]
    return Exposures(videos, authors, tags, tabs, feedback, timestamp_ms)


def _past_id(data: bytes, at: int) -> int:
    """Where the thing after the id at `at` begins."""
    kind = data[at]
    if kind < 240:
        return at + kind + 2
    return at + kind - 238 if kind < 255 else at + data[at + 1] + 3


def encode_video(video: Video) -> bytes:
    """A catalogue entry without its id: presence of author and tag, duration, those ids."""
    mask, ids = _encode_optional((video.author_id, video.tag))
    return _VIDEO.pack(mask, video.duration_s or 0.0) + ids


def decode_video(video_id: str, data: bytes) -> Video:
    """The inverse of `encode_video`.

    Raises:
        ValueError: these bytes are no catalogue entry.
    """
    try:
        mask, duration = _VIDEO.unpack_from(data)
        at = _VIDEO.size
        author_id = tag = None
        if mask & 1:
            author_id, at = unpack_id(data, at)
        if mask & 2:
            tag, at = unpack_id(data, at)
    except (struct.error, IndexError) as e:
        raise ValueError(f"the entry of video {video_id!r} is damaged: {e}") from e
    known = seconds(duration) if duration else None
    return Video(video_id=video_id, duration_s=known, author_id=author_id, tag=tag)


def encode_profile(profile: Profile) -> bytes:
    """MessagePack: names are the bundle's to choose, so they travel with the values."""
    return msgspec.msgpack.encode(profile)


def decode_profile(data: bytes) -> Profile:
    """The inverse of `encode_profile`.

    Raises:
        ValueError: these bytes are no profile.
    """
    return msgspec.msgpack.decode(data, type=Profile)  # msgspec's DecodeError is a ValueError


def _encode_optional(values: Iterable[str | None]) -> tuple[int, bytes]:
    mask, packed = 0, b""
    for bit, value in enumerate(values):
        if value is not None:
            mask |= 1 << bit
            packed += _pack_known(value)
    return mask, packed
