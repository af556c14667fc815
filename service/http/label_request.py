"""The shapes of POST /label's body -> events, one by one: what cannot be read is refused alone."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from models.errors import Invalid, NotJson
from models.schema import MAX_ID_BYTES, FeedbackEvent
from service.http import body as bodies
from service.wire import Events, Rejected

Read = FeedbackEvent | Rejected

MAX_LINE_BYTES: Final = 64 * 1024
"""Of one NDJSON line; the longest event that is allowed, with every character escaped, is a quarter of it."""

_ONE: Final = msgspec.json.Decoder(FeedbackEvent)
_LIST: Final = msgspec.json.Decoder(list[FeedbackEvent])
_ENVELOPE: Final = msgspec.json.Decoder(Events)


def read_body(body: bytes, limit: int) -> list[Read]:
    """One event, an array of them, or `{"events": […]}`.

    Raises:
        NotJson: the body is not JSON, or not UTF-8.
        Invalid: it is neither of those shapes, or holds more than `limit` events.
    """
    events: list[Read] | None = _all_good(body)
    if events is None:
        elements = _elements(bodies.parse(body))
        bodies.limited(elements, limit, "events", "REELRANK_MAX_EVENTS")  # before each costs microseconds
        events = [_one(value, index) for index, value in enumerate(elements)]
    bodies.limited(events, limit, "events", "REELRANK_MAX_EVENTS")
    return events


def read_line(line: bytes, index: int) -> Read:
    """One line of an NDJSON body."""
    try:
        return _ONE.decode(line)
    except (ValueError, RecursionError):
        pass
    try:
        return _one(bodies.parse(line), index)
    except NotJson as e:
        return Rejected(index=index, code="malformed", detail=str(e).replace("The body", "The line"))


def long_line(index: int) -> Rejected:
    """What becomes of a line that nobody holds in memory."""
    return Rejected(index=index, code="malformed", detail=f"The line is longer than {MAX_LINE_BYTES} bytes.")


def _all_good(body: bytes) -> list[Read] | None:
    """The fast path: the whole body in one decode, or `None` if anything in it is not as it should be."""
    try:
        if body[:64].lstrip()[:1] == b"[":
            return list(_LIST.decode(body))
        try:
            return list(_ENVELOPE.decode(body).events)
        except msgspec.ValidationError:
            return [_ONE.decode(body)]
    except (ValueError, RecursionError):
        return None


def _elements(value: Any) -> list[Any]:
    if isinstance(value, dict) and "events" in value:
        if len(value) > 1:
            other = next(name for name in value if name != "events")
            raise Invalid(f"Beside `events` there must be nothing, found {other!r}.", loc=other)
        value = value["events"]
        if not isinstance(value, list):
            raise Invalid("`events` must be an array.", loc="events")
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list):
        return value
    raise Invalid("The body must be an event, an array of events, or an object with `events`.")


def _one(value: Any, index: int) -> Read:
    if not isinstance(value, dict):
        found = "null" if value is None else type(value).__name__
        return Rejected(index=index, code="malformed", detail=f"An event is an object, found {found}.")
    try:
        return bodies.convert(value, FeedbackEvent)
    except Invalid as e:
        named = value.get("event_id")
        readable = isinstance(named, str) or (isinstance(named, int) and not isinstance(named, bool))
        return Rejected(
            index=index,
            code="invalid",
            detail=str(e),
            event_id=str(named)[:MAX_ID_BYTES] if readable else None,
            loc=e.loc,
        )
