"""The rule for ids, for members of requests that are not part of an event or a candidate."""

from __future__ import annotations

from models.schema import _id


def checked_id(value: str | int, member: str) -> str:
    """The id as a string.

    Raises:
        ValueError: not 1 to 256 bytes of UTF-8 without control characters.
    """
    return _id(value, member)
