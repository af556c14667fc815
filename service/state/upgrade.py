"""What versions 0.1.0 and 0.2.0 wrote, in the present format.

Both kept what had left a sequence in pages: fields of one byte, of the hashes that have fields of eight now,
with about 1/64 of the records each; and claims on event ids in 64 pairs of hashes, event digest -> user
digest. A field `at` of each hash was a clock.

0.1.0 had records of its own. A sequence began with the byte 2 and six bytes more. Then came records: flags
(1 byte, bit 7: context follows), timestamp_ms (6), watch_time_s, duration_s (float32, 0 is unknown), event
id, video id and, with context, a byte whose bits name the members that follow as ids. A page had the same
records. A catalogue entry was a byte whose bits name author and tag, duration_s, those ids. An id was one
byte and what it announces: 0-239 text of one byte more, 240-246 a decimal number in 1-7 bytes, 255 text of
one byte more than the next byte gives. All big-endian.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, Final

from models.schema import FLAGS, FeedbackEvent, Video
from service.state import codec
from service.state.connect import Connection, send_all
from service.state.keys import event_digest, user_digest
from service.state.pipelined_connection import Command
from service.state.scripts import UPGRADE

HEAD_BYTES: Final = 7
"""Before the first record of a sequence."""

_RECORD: Final = struct.Struct(">BHIff")
_VIDEO: Final = struct.Struct(">Bf")


def is_old(sequence: bytes) -> bool:
    """Return whether version 0.1.0 wrote this sequence."""
    return sequence[:1] == b"\x02"


def upgrade_sequence(sequence: bytes) -> bytes:
    """Return a sequence in the present format, also if it is in it already.

    Raises:
        ValueError: it is damaged.
    """
    if not is_old(sequence):
        return sequence
    return codec.encode_sequence(_decode_events(sequence, HEAD_BYTES))


def claim_keys(prefix: str) -> list[str]:
    """Return the hashes of claims: pairs, the second one the generation before."""
    return [f"{prefix}:{kind}:{{{shard:02d}}}" for shard in range(64) for kind in "co"]


async def former_owners(
    connection: Connection, claims: Sequence[str], event_ids: Sequence[str]
) -> list[bytes | None]:
    """Return whose each event is by the claims of 0.2.0, as a user digest, or `None`.

    Args:
        claims: `claim_keys`.
    """
    found = await send_all(connection, [("HGET", *field) for field in _fields_of(claims, event_ids)])
    return [young or old for young, old in zip(found[::2], found[1::2], strict=True)]


async def release_former(
    connection: Connection, claims: Sequence[str], keys: Sequence[str], user_id: str, window_ms: int
) -> None:
    """Remove a user's claims of 0.2.0.

    Raises:
        ValueError: what is stored on the user is damaged.
    """
    await upgrade_user(connection, keys, user_id, window_ms)
    sequence, *left = await send_all(connection, [("GET", keys[0]), ("HVALS", keys[1]), ("HVALS", keys[2])])
    events = codec.decode_events(user_id, codec.join_records([r for found in left for r in found]))
    if sequence is not None:
        events += codec.decode_sequence(user_id, sequence, sys.maxsize)
    fields = _fields_of(claims, [event.event_id for event in events])
    owners = await send_all(connection, [("HGET", *field) for field in fields])
    own = [field for field, owner in zip(fields, owners, strict=True) if owner == user_digest(user_id)]
    await send_all(connection, [("HDEL", *field) for field in own])


def _fields_of(claims: Sequence[str], event_ids: Sequence[str]) -> list[tuple[str, bytes]]:
    """Return key and field of the two claims that each event id may have."""
    digests = [blake2b(event_id.encode(), digest_size=8).digest() for event_id in event_ids]
    return [
        (key, digest) for digest in digests for key in claims[2 * (digest[0] % 64) : 2 * (digest[0] % 64) + 2]
    ]


async def upgrade_user(connection: Connection, keys: Sequence[str], user_id: str, window_ms: int) -> None:
    """Rewrite what an older build stored on a user.

    Raises:
        ValueError: it is damaged.
    """
    key, *hashes = keys[:3]
    sequence = await connection.execute_command("GET", key)
    of_0_1 = sequence is not None and is_old(sequence)
    for hash_key in hashes:
        for field in await connection.execute_command("HKEYS", hash_key):
            page = await connection.execute_command("HGET", hash_key, field)
            if len(field) == 1 and page is not None:
                events = _decode_events(page) if of_0_1 else codec.decode_events(user_id, page)
                left: list[Command] = [
                    ("HSETNX", hashes[0], event_digest(event.event_id), codec.encode_event(event))
                    for event in events
                ]
                rest = [("PEXPIRE", hashes[0], 2 * window_ms), ("HDEL", hash_key, field)]
                await send_all(connection, [*left, *rest])
        await connection.execute_command("HDEL", hash_key, "at")
    if of_0_1:
        await connection.execute_command("EVAL", UPGRADE.text, 1, key, sequence, upgrade_sequence(sequence))


def upgrade_video(entry: bytes) -> bytes:
    """Return a catalogue entry in the present format, also if it is in it already.

    Raises:
        ValueError: it is damaged.
    """
    if entry[:1] > b"\x03":
        return entry
    try:
        mask, duration_s = _VIDEO.unpack_from(entry)
        members, _ = _optional_ids(entry, _VIDEO.size, mask, ("author_id", "tag"))
    except (struct.error, IndexError) as e:
        raise ValueError(f"the catalogue entry {entry!r} is damaged: {e}") from e
    author_id, tag = members.get("author_id"), members.get("tag")
    return codec.encode_video(
        Video(video_id="0", duration_s=_decimal(duration_s) or None, author_id=author_id, tag=tag)
    )


def _decode_events(data: bytes, offset: int = 0) -> list[FeedbackEvent]:
    events = []
    try:
        while offset < len(data):
            flags, high, low, watch_time_s, duration_s = _RECORD.unpack_from(data, offset)
            members: dict[str, Any] = {name: bool(flags >> bit & 1) for bit, name in enumerate(FLAGS)}
            members["event_id"], offset = _id(data, offset + _RECORD.size)
            members["video_id"], offset = _id(data, offset)
            if flags & 0x80:
                context, offset = _optional_ids(data, offset + 1, data[offset], codec.CONTEXT)
                members |= context
            members["watch_time_s"], members["duration_s"] = (
                _decimal(watch_time_s),
                _decimal(duration_s) or None,
            )
            events.append(FeedbackEvent(user_id="0", timestamp_ms=(high << 32) | low, **members))
    except (struct.error, IndexError) as e:
        raise ValueError(
            f"a record of an older format is damaged at byte {offset} of {len(data)}: {e}"
        ) from e
    if offset != len(data):
        raise ValueError(f"the last record of an older format lacks {offset - len(data)} bytes")
    return events


def _optional_ids(data: bytes, offset: int, mask: int, names: Sequence[str]) -> tuple[dict[str, str], int]:
    members = {}
    for bit, name in enumerate(names):
        if mask >> bit & 1:
            members[name], offset = _id(data, offset)
    return members, offset


def _id(data: bytes, offset: int) -> tuple[str, int]:
    kind = data[offset]
    start = offset + (2 if kind == 255 else 1)
    if 240 <= kind < 247:
        end = start + kind - 239
        return str(int.from_bytes(data[start:end])), end
    end = start + 1 + (data[offset + 1] if kind == 255 else kind)
    return data[start:end].decode(), end


def _decimal(value: float) -> float:
    """Return the decimal of seven digits that was stored as this float32."""
    return float(f"{value:.7g}")
