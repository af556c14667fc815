"""Request bodies: their type, their size, and what is in them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from starlette.requests import Request

from models.errors import BodyTooLarge, BodyTooSlow, Invalid, NotJson, WrongContentType
from models.schema import checked_id
from service.services import services_of

JSON: Final = "application/json"

MAX_PARTS: Final = 200_000
"""Arrays and objects of a body that is not as it should be: each costs up to a microsecond. Ten times what
the largest good body has."""

NDJSON: Final = "application/x-ndjson"

T = TypeVar("T")


def content_type(request: Request, *allowed: str) -> str:
    """Which of the allowed types the body has. None at all is not one: a browser's form sends that too.

    Raises:
        WrongContentType: another type, another charset than UTF-8, or a compressed body.
    """
    headers = request.headers
    mime, _, parameters = headers.get("content-type", "").partition(";")
    mime = mime.strip().lower()
    if mime not in allowed:
        raise WrongContentType(f"Content-Type must be {' or '.join(allowed)}, found {mime or 'none'!r}.")
    charset = re.search(r"charset\s*=\s*\"?([^\s;\"]+)", parameters, re.IGNORECASE)
    if charset and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise WrongContentType(f"The charset must be UTF-8, found {charset[1]!r}.")
    if headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise WrongContentType("Compressed bodies are not read; send it without Content-Encoding.")
    return mime


async def read(request: Request, limit: int) -> bytes:
    """The whole body, whether its length was announced or it comes in chunks.

    Raises:
        BodyTooLarge: more than `limit` bytes; no more than that are ever held.
        BodyTooSlow: it has not arrived in time.
        Overloaded: too much is held of all bodies that are still arriving.
    """
    too_large = BodyTooLarge(f"The body is larger than {limit} bytes (REELRANK_MAX_BODY_BYTES).")
    announced = request.headers.get("content-length", "")
    length = int(announced[:20]) if announced.isdecimal() else -1
    if length > limit:
        raise too_large
    services = services_of(request)
    timeout_s = services.settings.body_timeout_s
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            with services.admission.bodies.take(0) as held:
                async for part in request.stream():
                    size += len(part)
                    if size > limit:
                        raise too_large
                    if size != length:  # a body that is all there waits for nobody and is not counted
                        held.add(len(part))
                    parts.append(part)
    except TimeoutError:
        raise BodyTooSlow(
            f"{size} bytes of the body came within {timeout_s:g} s and not its end (REELRANK_BODY_TIMEOUT_S)."
        ) from None
    return parts[0] if len(parts) == 1 else b"".join(parts)


def decode(decoder: msgspec.json.Decoder[T], body: bytes, *, root: str = "") -> T:
    """The body as the decoder's type.

    Args:
        decoder: of a struct or of a list of them.
        body: JSON.
        root: how `errors[].loc` calls the body itself, e.g. `videos` for `videos[3].duration_s`.

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


def parse(body: bytes) -> Any:
    """JSON as Python objects. `NaN` and `Infinity`, which some writers produce, are let through: they are
    values that break their rule (422), not an unreadable body.

    Raises:
        NotJson: not JSON, or not UTF-8, or nested too deep to be read.
        Invalid: more arrays and objects than anything good has.
    """
    checked_parts(body)
    try:
        return json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as e:
        raise NotJson(f"The body is not UTF-8: byte {e.start} is wrong.") from None
    except RecursionError:
        raise NotJson("The body is nested too deep.") from None
    except ValueError as e:
        raise NotJson(f"The body is not JSON: {e}.") from None


def checked_parts(body: bytes) -> None:
    """Raises:
    Invalid: JSON of more arrays and objects than anything good has.
    """
    if body.count(b"}") + body.count(b"]") > MAX_PARTS:  # those that are never closed end the reading soon
        raise Invalid(f"The body has more than {MAX_PARTS} arrays and objects.")


def convert(value: Any, kind: type[T], *, root: str = "") -> T:
    """A parsed value as a struct.

    Raises:
        Invalid: a member breaks its rule.
    """
    try:
        return msgspec.convert(value, kind)
    except (ValueError, RecursionError, OverflowError) as e:
        raise _invalid(str(e), root) from None


def limited(values: Sequence[Any], limit: int, what: str, setting: str) -> None:
    """Raises:
    Invalid: there are more than `limit` of them.
    """
    if len(values) > limit:
        raise Invalid(f"At most {limit} {what} ({setting}), found {len(values)}.", loc=what)


def path_id(request: Request, member: str) -> str:
    """An id in the path, percent-decoded strictly; it may hold slashes.

    Raises:
        Invalid: not UTF-8, or not an id.
    """
    raw: bytes = request.scope.get("raw_path") or b""
    # The framework has decoded invalid bytes to U+FFFD already, which would be another user.
    try:
        unquote_to_bytes(raw).decode()
        return checked_id(request.path_params[member], member)
    except UnicodeDecodeError:
        raise Invalid(f"`{member}` in the path is not UTF-8.", loc=member) from None
    except ValueError as e:
        raise Invalid(f"{e}.", loc=member) from None


def flag(request: Request, name: str, default: bool) -> bool:
    """A query parameter `true` or `false`.

    Raises:
        Invalid: something else.
    """
    value = request.query_params.get(name)
    if value is None:
        return default
    if value.lower() in ("true", "1"):
        return True
    if value.lower() in ("false", "0"):
        return False
    raise Invalid(f"`{name}` must be true or false, found {value!r}.", loc=name)


def _invalid(message: str, root: str) -> Invalid:
    """msgspec's message, its place told apart from its text."""
    detail, _, path = message.partition(" - at `")
    loc = root + path.rstrip("`").removeprefix("$")
    # A struct's own check is located at the struct; its message begins with the member it means.
    if named := re.match(r"`([\w.]+)`", detail):
        loc += f".{named[1]}"
    return Invalid(f"{detail}.", loc=loc.lstrip("."))
