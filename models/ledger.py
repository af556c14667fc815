"""The unlearning ledger's lines: written by the service, honoured by what is trained next.

An NDJSON file, `{"user_id": "u1", "forgotten_at_ms": 1763730000000}` a line. It only grows, and the order
of its lines means nothing, so ledgers of several machines are put together with `cat`.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Annotated, Final

import msgspec

from models.errors import BadInput
from models.schema import MAX_TIMESTAMP_MS


class Entry(msgspec.Struct, frozen=True):
    """One user who asked to be forgotten."""

    user_id: str
    forgotten_at_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_TIMESTAMP_MS)]
    """When, Unix milliseconds."""


_decoder: Final = msgspec.json.Decoder(Entry, strict=True)


def read(path: Path, *, since_ms: int = 0) -> list[Entry]:
    """Return the entries of a ledger from `since_ms` on, in the order of the file.

    Raises:
        BadInput: the file cannot be read, or a line of it is no entry. No line is skipped: it may name a
            user who must be forgotten.
    """
    try:
        lines = path.read_bytes().removeprefix(codecs.BOM_UTF8).splitlines()
    except OSError as e:
        raise BadInput(f"The ledger {path} cannot be read: {e.strerror}.") from None
    entries = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entries.append(_decoder.decode(line))
        except (ValueError, RecursionError) as e:
            raise BadInput(
                f"{path}, line {number} is no entry of an unlearning ledger ({e}). Repair the line by hand; "
                "the user it names must not be lost."
            ) from None
    return [entry for entry in entries if entry.forgotten_at_ms >= since_ms]
