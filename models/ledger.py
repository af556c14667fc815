"""The unlearning ledger's lines: written by the service, honoured by what is trained next.

An NDJSON file, `{"user_id": "u1", "forgotten_at_ms": 1763730000000}` a line. It only grows, and the order
of its lines means nothing, so ledgers of several machines are put together with `cat`.

The service writes lines of users. An operator may add lines of a video (`video_id`), of an author
(`author_id`), or of one exposure (`user_id`, `video_id` and `timestamp_ms`). Training leaves out the rows
that have everything that a line names.
"""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Annotated, Final

import msgspec

from models.errors import BadInput
from models.schema import MAX_TIMESTAMP_MS


class Entry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rows that must be forgotten: those with every id that the entry names."""

    user_id: str | None = None
    forgotten_at_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_TIMESTAMP_MS)]
    """When it was asked for, Unix milliseconds."""
    video_id: str | None = None
    author_id: str | None = None
    timestamp_ms: Annotated[int, msgspec.Meta(ge=0, le=MAX_TIMESTAMP_MS)] | None = None
    """Of one exposure, Unix milliseconds."""

    def __post_init__(self) -> None:
        if not self.ids:
            raise ValueError("names no user, video or author")
        if self.timestamp_ms is not None and self.user_id is None:
            raise ValueError("names a time, but no user")

    @property
    def ids(self) -> dict[str, str | int]:
        """What rows must have, by the column of the log."""
        named = {name: getattr(self, name) for name in ("user_id", "video_id", "author_id")}
        found = {name: value for name, value in named.items() if value is not None}
        return found | ({} if self.timestamp_ms is None else {"timestamp_ms": self.timestamp_ms})

    @property
    def is_of_a_user(self) -> bool:
        """Whether everything of a user must be forgotten."""
        return set(self.ids) == {"user_id"}


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
                "what it names must not be lost."
            ) from None
    return [entry for entry in entries if entry.forgotten_at_ms >= since_ms]
