"""What a store keeps of exposures, videos and users, as bytes: MessagePack, which its Lua scripts read too.

One exposure is one *record* of seven values (39 bytes with two ids of 8 letters and no context). The user is
not in it: the key names the user.

    event_id, video_id    text; a decimal number below 10^15 as an integer, in half the bytes
    timestamp_ms
    watch_time, duration  microseconds; 0 is an unknown duration (a known one is above 0)
    flags                 its bits are `FLAGS` in order
    context               "", or the members of `CONTEXT`, "" where unknown, with `SEPARATOR` between them,
                          and one more if there are own signals: `name=value`, by name, `t` for yes, with
                          `SIGNAL_SEPARATOR` between them

Records lie one after the other in one flat array: a script unpacks a hundred of them five times as fast as
a hundred arrays. A *sequence* is [newest timestamp, values] with a head of fixed size, so that a script
appends to it without unpacking it (`sequence.lua`). Equal ids have equal bytes. A change of this layout needs
other first bytes of a sequence and of a page, and an addition to `upgrade.py`.

A catalogue entry is [duration, author_id, tag, published_ms, features] without what is unknown at its end.

A *history* is one flat array, too: for each entry the id of its video and a number whose bits are
`HISTORY_COLUMNS` in order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np

from models.features import HISTORY_COLUMNS, Exposures, HistoryEntries
from models.schema import FLAGS, FeatureValue, FeedbackEvent, HistoryEntry, Profile, Video

SignalValues = dict[str, bool | float]

CONTEXT: Final = ("session_id", "tab", "device", "author_id", "tag")
"""Optional members of an event, in the order of a record."""

SEPARATOR: Final = "\x1f"
"""A control character: no id holds one."""
SIGNAL_SEPARATOR: Final = "\x1e"
YES: Final = "t"
"""Of a signal; what is no, or 0, is not kept."""

SIZE: Final = 7
"""Values of a record."""

MICROSECONDS: Final = 1_000_000
"""In a second."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode_values: Final = msgspec.msgpack.Decoder(list[str | int]).decode
_decode_sequence: Final = msgspec.msgpack.Decoder(tuple[int, list[str | int]]).decode
_decode_profile: Final = msgspec.msgpack.Decoder(Profile).decode

_ARRAY: Final = struct.Struct(">BI")
_SEQUENCE_HEAD: Final = struct.Struct(">BBQ")
_FLAG_SHIFTS: Final = np.arange(len(FLAGS), dtype=np.uint8)
_HISTORY_SHIFTS: Final = np.arange(len(HISTORY_COLUMNS), dtype=np.uint8)
_FLAGS: Final = [
    dict(zip(FLAGS, reversed(bits), strict=True)) for bits in product((False, True), repeat=len(FLAGS))
]
_FLAG_BITS: Final = {tuple(flags.values()): byte for byte, flags in enumerate(_FLAGS)}
_flags_of: Final = attrgetter(*FLAGS)
_context_of: Final = attrgetter(*CONTEXT)
_NO_CONTEXT: Final = (None,) * len(CONTEXT)


def normalised(event: FeedbackEvent) -> FeedbackEvent:
    """Return the event as every store returns it: seconds to the microsecond, without the slate that showed
    the video, and without signals that say no or 0."""
    watch, duration = _seconds(_microseconds(event.watch_time_s)), event.duration_s
    rounded = None if duration is None else _seconds(_microseconds(duration))
    is_shown = event.request_id is not None or event.position is not None
    signals = _nonzero(event.signals)
    if watch == event.watch_time_s and rounded == duration and not is_shown and signals == event.signals:
        return event
    return msgspec.structs.replace(
        event,
        watch_time_s=watch,
        duration_s=rounded,
        request_id=None,
        position=None,
        signals=signals,
    )


def _nonzero(signals: SignalValues | None) -> SignalValues | None:
    """Return the signals that say more than no or 0, if there are any."""
    return {name: value for name, value in signals.items() if value} or None if signals else None


def pack_id(text: str) -> str | int:
    """Return an id as it is stored: a decimal number of at most 15 digits becomes an integer."""
    if len(text) <= 15 and text.isascii() and text.isdigit() and (text[0] != "0" or text == "0"):
        return int(text)
    return text


def encode_event(event: FeedbackEvent) -> bytes:
    """Encode one record."""
    context, signals = _context_of(event), _nonzero(event.signals)
    values = (
        pack_id(event.event_id),
        pack_id(event.video_id),
        event.timestamp_ms,
        _microseconds(event.watch_time_s),
        _microseconds(event.duration_s or 0.0),
        _FLAG_BITS[_flags_of(event)],
        "" if context == _NO_CONTEXT and not signals else _encode_context(context, signals),
    )
    return _encode(values)[1:]  # without the head of an array of seven


def _encode_context(context: tuple[str | None, ...], signals: SignalValues | None) -> str:
    values = [value or "" for value in context]
    if signals:
        known = sorted(signals.items())
        parts = [f"{name}={YES if value is True else repr(float(value))}" for name, value in known]
        values.append(SIGNAL_SEPARATOR.join(parts))
    return SEPARATOR.join(values)


def _decode_signals(text: str) -> SignalValues:
    pairs = (part.split("=") for part in text.split(SIGNAL_SEPARATOR))
    return {name: True if value == YES else float(value) for name, value in pairs}


def encode_events(events: Sequence[FeedbackEvent]) -> bytes:
    """Encode an array of records, with a head of fixed size: what a script takes."""
    return join_records(list(map(encode_event, events)))


def join_records(records: Sequence[bytes]) -> bytes:
    """Return encoded records as an array."""
    return _ARRAY.pack(0xDD, SIZE * len(records)) + b"".join(records)


def encode_sequence(events: Sequence[FeedbackEvent]) -> bytes:
    """Encode a stored sequence; there is at least one event."""
    return _SEQUENCE_HEAD.pack(0x92, 0xCF, events[-1].timestamp_ms) + encode_events(events)


def decode_events(user_id: str, data: bytes) -> list[FeedbackEvent]:
    """Decode an array of records into events of `user_id`.

    Raises:
        ValueError: these bytes are no such array.
    """
    with _damage_as_value_error():
        return _events(user_id, _decode_values(data))


def decode_sequence(user_id: str, data: bytes, length: int) -> list[FeedbackEvent]:
    """Decode the newest `length` events of a stored sequence.

    Raises:
        ValueError: these bytes are no sequence.
    """
    with _damage_as_value_error():
        return _events(user_id, _newest(data, length))


def decode_exposures(data: bytes, length: int) -> Exposures:
    """Decode the newest `length` events of a stored sequence into columns, without the making of events.

    Raises:
        ValueError: these bytes are no sequence.
    """
    with _damage_as_value_error():
        return _exposures(_newest(data, length))


class _StoredVideo(msgspec.Struct, array_like=True, gc=False):
    duration_us: int
    author_id: str
    tag: str
    published_ms: int | None = None
    features: dict[str, FeatureValue] | None = None


_decode_video: Final = msgspec.msgpack.Decoder(_StoredVideo).decode


def encode_video(video: Video) -> bytes:
    """Encode a catalogue entry without its id."""
    values = [_microseconds(video.duration_s or 0.0), video.author_id or "", video.tag or ""]
    if video.features or video.published_ms is not None:
        values.append(video.published_ms)
    return _encode([*values, video.features] if video.features else values)


def decode_video(video_id: str, data: bytes) -> Video:
    """Decode what `encode_video` encoded.

    Raises:
        ValueError: these bytes are no catalogue entry.
    """
    try:
        stored = _decode_video(data)
    except ValueError as e:
        raise ValueError(f"the entry of video {video_id!r} is damaged: {e}") from e
    return Video(
        video_id=video_id,
        duration_s=_seconds(stored.duration_us) if stored.duration_us else None,
        author_id=stored.author_id or None,
        tag=stored.tag or None,
        published_ms=stored.published_ms,
        features=stored.features,
    )


def encode_profile(profile: Profile) -> bytes:
    """Encode a profile; names are the bundle's to choose, so they travel with the values."""
    return _encode(profile)


def decode_profile(data: bytes) -> Profile:
    """Decode what `encode_profile` encoded.

    Raises:
        ValueError: these bytes are no profile.
    """
    return _decode_profile(data)


def encode_history(entries: Sequence[HistoryEntry]) -> bytes:
    """Encode a history, oldest entry first."""
    bits = (
        (HistoryEntries.from_rows(entries).feedback.astype(np.int64) << _HISTORY_SHIFTS).sum(axis=1).tolist()
    )
    pairs = zip((pack_id(entry.video_id) for entry in entries), bits, strict=True)
    return _encode([value for pair in pairs for value in pair])


def decode_history(data: bytes) -> HistoryEntries:
    """Decode what `encode_history` encoded.

    Raises:
        ValueError: these bytes are no history.
    """
    with _damage_as_value_error():
        values = _decode_values(data)
        if len(values) % 2:
            raise ValueError(f"an entry of a history is incomplete: found {len(values)} values")
        feedback = np.array(values[1::2], np.int64)[:, None] >> _HISTORY_SHIFTS & 1
        return HistoryEntries(list(map(str, values[::2])), feedback.astype(np.float32))


@contextmanager
def _damage_as_value_error() -> Iterator[None]:
    try:
        yield
    except (TypeError, LookupError, AttributeError, OverflowError) as e:
        raise ValueError(f"a record is damaged: {e}") from e


def _complete(values: list[str | int]) -> list[Any]:
    if len(values) % SIZE:
        raise ValueError(f"a record is incomplete: {SIZE} values each, found {len(values)} values")
    return values


def _newest(data: bytes, length: int) -> list[Any]:
    return _complete(_decode_sequence(data)[1])[-SIZE * length :]


def _exposures(values: list[Any]) -> Exposures:
    count = len(values) // SIZE
    feedback = np.empty((count, 2 + len(FLAGS)), np.float32)
    feedback[:, 0] = np.array(values[3::SIZE], np.float64) / MICROSECONDS
    duration_s = np.array(values[4::SIZE], np.float64) / MICROSECONDS
    feedback[:, 1] = np.where(duration_s == 0, np.nan, duration_s)
    feedback[:, 2:] = np.array(values[5::SIZE], np.int64)[:, None] >> _FLAG_SHIFTS & 1
    authors: list[str | None] = [None] * count
    tags, tabs = authors.copy(), authors.copy()
    signals: list[SignalValues | None] = []
    for i, context in enumerate(values[6::SIZE]):
        if context:
            _, tab, _, author, tag, *own = str(context).split(SEPARATOR)
            authors[i], tags[i], tabs[i] = author or None, tag or None, tab or None
            if own:
                signals = signals or [None] * count
                signals[i] = _decode_signals(own[0])
    timestamp_ms = np.array(values[2::SIZE], np.int64)
    return Exposures(list(map(str, values[1::SIZE])), authors, tags, tabs, feedback, timestamp_ms, signals)


def _events(user_id: str, values: list[str | int]) -> list[FeedbackEvent]:
    rows = iter(_complete(values))
    events = []
    for event_id, video_id, timestamp_ms, watch_us, duration_us, flags, context in zip(
        *(rows,) * SIZE, strict=True
    ):
        event = FeedbackEvent(
            event_id=str(event_id),
            user_id=user_id,
            video_id=str(video_id),
            timestamp_ms=timestamp_ms,
            watch_time_s=_seconds(watch_us),
            duration_s=_seconds(duration_us) if duration_us else None,
            **_FLAGS[flags],
        )
        if context:
            parts = context.split(SEPARATOR)
            if len(parts) > len(CONTEXT):
                msgspec.structs.force_setattr(event, "signals", _decode_signals(parts.pop()))
            for name, value in zip(CONTEXT, parts, strict=True):
                msgspec.structs.force_setattr(event, name, value or None)
        events.append(event)
    return events


def _microseconds(seconds: float) -> int:
    return round(seconds * MICROSECONDS)


def _seconds(microseconds: int) -> float:
    return microseconds / MICROSECONDS
