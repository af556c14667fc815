"""JSON bytes to structs, with an error that locates the wrong member."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

import msgspec

from models.errors import Invalid, NotJson
from models.schema import MAX_ID_BYTES

MAX_CONTAINERS: Final = 200_000
"""Arrays and objects of a faulty body: each costs up to a microsecond. Ten times what the largest good body
has."""

MAX_DEPTH: Final = 64
"""Arrays and objects in each other; a good body has no more than five. What lies deeper is read as `null`, so
that only the event that holds it is rejected."""

T = TypeVar("T")


def _integer(digits: str) -> float:
    """One that is too long for an id is read as a float, infinite if need be: Python makes no integer of more
    than 4,300 digits, and no float of an integer of more than 308."""
    return int(digits) if len(digits) <= MAX_ID_BYTES else float(digits)


DECODER: Final = json.JSONDecoder(parse_int=_integer)
_STRING_OR_BRACKET: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|[][{}]', re.DOTALL)


def decode(decoder: msgspec.json.Decoder[T], body: bytes, *, root: str = "") -> T:
    """Decode a body as the decoder's type.

    Args:
        decoder: of a struct or of a list of them.
        body: JSON.
        root: name of the body itself in `errors[].loc`, e.g. `videos` for `videos[3].duration_s`.

    Raises:
        NotJson: not JSON, or not UTF-8.
        Invalid: JSON, but a member breaks its rule.
    """
    try:
        return decoder.decode(body)
    except (ValueError, RecursionError):
        # The decoder stops at the first fault, be it of the schema or of the JSON; which of them matters.
        # It also takes no integer above 64 bits, which may well be an id.
        return convert(parse(body), decoder.type, root=root)


def parse(body: bytes, read: Callable[[str], Any] = DECODER.decode) -> Any:
    """Parse JSON into Python objects.

    `NaN` and `Infinity`, which some writers produce, are let through: they are values that break their rule
    (422), not an unreadable body.

    Args:
        body: JSON.
        read: makes objects of its text.

    Raises:
        NotJson: not JSON, or not UTF-8.
        Invalid: more than `MAX_CONTAINERS` arrays and objects.
    """
    check_containers(body)
    try:
        text = body.decode("utf-8")
        try:
            return read(text)
        except RecursionError:
            return read(_shallow(text))
    except UnicodeDecodeError as e:
        raise NotJson(f"The body is not UTF-8: byte {e.start} is wrong.") from None
    except ValueError as e:
        raise NotJson(f"The body is not JSON: {e}.") from None


def _shallow(text: str) -> str:
    """Return JSON with `null` for what lies deeper than `MAX_DEPTH`."""
    unclosed = NotJson("The body is not JSON: its arrays and objects are not closed.")
    if text.count("[") + text.count("{") > MAX_CONTAINERS:  # so many are not closed: `check_containers`
        raise unclosed
    kept: list[str] = []
    begin = depth = 0
    for token in _STRING_OR_BRACKET.finditer(text):
        if token[0] in ("[", "{"):
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept += text[begin : token.start()], "null"
        elif token[0] in ("]", "}"):
            if depth == MAX_DEPTH + 1:
                begin = token.end()
            depth -= 1
    if depth > MAX_DEPTH:
        raise unclosed
    return "".join(kept) + text[begin:]


def check_containers(body: bytes) -> None:
    """Refuse JSON of more than `MAX_CONTAINERS` arrays and objects.

    Raises:
        Invalid: it has more.
    """
    if body.count(b"}") + body.count(b"]") > MAX_CONTAINERS:  # unclosed ones end the parsing early
        raise Invalid(f"The body has more than {MAX_CONTAINERS} arrays and objects.")


def convert(value: Any, kind: type[T], *, root: str = "") -> T:
    """Convert a parsed value to a struct.

    Raises:
        Invalid: a member breaks its rule.
    """
    try:
        return msgspec.convert(value, kind)
    except UnicodeEncodeError:
        raise Invalid("In place of another type is a lone surrogate, which is not UTF-8.") from None
    except (ValueError, RecursionError, OverflowError) as e:
        raise _invalid(str(e), root) from None


def check_count(values: Sequence[Any], limit: int, member: str, setting: str) -> None:
    """Refuse a list that is longer than its limit.

    Raises:
        Invalid: it has more than `limit` elements.
    """
    if len(values) > limit:
        raise Invalid(f"At most {limit} {member} ({setting}), found {len(values)}.", loc=member)


def _invalid(message: str, root: str) -> Invalid:
    """Split msgspec's message into its text and its location."""
    detail, _, path = message.partition(" - at `")
    loc = root + path.rstrip("`").removeprefix("$")
    # A struct's own check is located at the struct; its message begins with the member it means.
    if named := re.match(r"`([\w.]+)`", detail):
        loc += f".{named[1]}"
    return Invalid(f"{detail}.", loc=loc.lstrip("."))
