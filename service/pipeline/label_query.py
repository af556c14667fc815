"""What POST /label is asked: bytes to events, one by one. An event that cannot be read is rejected alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from models.errors import Invalid, NotJson
from models.schema import MAX_ID_BYTES, FeedbackEvent
from service.inference.serving_set import ServingSet
from service.pipeline.decoding import convert, parse
from service.wire import Events, Rejected

MAX_LINE_BYTES: Final = 64 * 1024
"""Of one NDJSON line; the longest event that is allowed, with every character escaped, is a quarter of it."""

DecodedEvent = FeedbackEvent | Rejected

_event: Final = msgspec.json.Decoder(FeedbackEvent)
_list: Final = msgspec.json.Decoder(list[FeedbackEvent])
_envelope: Final = msgspec.json.Decoder(Events)


@dataclass(frozen=True, slots=True)
class LabelTarget:
    """What answers all events of one request or stream, however long it lasts: see `LabelPipeline.target`."""

    serving: ServingSet
    names: tuple[str, ...]
    """Labels to compute."""


@dataclass(frozen=True, slots=True)
class LabelQuery:
    """Events to store and label, in the order of the body."""

    events: Sequence[DecodedEvent]
    target: LabelTarget
    store: bool = True
    """Whether to add the events to their users' sequences."""
    offset: int = 0
    """Position of the first event, in a body that is read in parts."""


def decode_events(body: bytes, limit: int) -> Sequence[DecodedEvent]:
    """Decode one event, an array of them, or `{"events": […]}`.

    Raises:
        NotJson: the body is not JSON, or not UTF-8.
        Invalid: it is neither of those shapes, or holds more than `limit` events.
    """
    events = _decode_plain(body)
    elements = _elements(parse(body)) if events is None else events
    if len(elements) > limit:  # before each costs microseconds
        raise Invalid(f"At most {limit} events (REELRANK_MAX_EVENTS), found {len(elements)}.", loc="events")
    return events or [_convert_one(value, index) for index, value in enumerate(elements)]


def decode_line(line: bytes | None, index: int) -> DecodedEvent:
    """Decode one line of an NDJSON body.

    Args:
        line: `None` for one that was longer than `MAX_LINE_BYTES`.
        index: its position in the body.
    """
    if line is None or len(line) > MAX_LINE_BYTES:
        detail = f"The line is longer than {MAX_LINE_BYTES} bytes."
        return Rejected(index=index, code="malformed", detail=detail)
    try:
        return _event.decode(line)
    except (ValueError, RecursionError):
        pass
    try:
        return _convert_one(parse(line), index)
    except NotJson as e:
        return Rejected(index=index, code="malformed", detail=str(e).replace("The body", "The line"))


def _decode_plain(body: bytes) -> list[FeedbackEvent] | None:
    """Decode the whole body at once; return `None` if anything in it breaks a rule."""
    try:
        if body[:64].lstrip()[:1] == b"[":
            return _list.decode(body)
        try:
            return _envelope.decode(body).events
        except msgspec.ValidationError:
            return [_event.decode(body)]
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


def _convert_one(value: Any, index: int) -> DecodedEvent:
    if not isinstance(value, dict):
        kind = "null" if value is None else type(value).__name__
        return Rejected(index=index, code="malformed", detail=f"An event is an object, found {kind}.")
    try:
        return convert(value, FeedbackEvent)
    except Invalid as e:
        event_id = value.get("event_id")
        readable = isinstance(event_id, str) or (isinstance(event_id, int) and not isinstance(event_id, bool))
        return Rejected(
            index=index,
            code="invalid",
            detail=str(e),
            event_id=str(event_id)[:MAX_ID_BYTES] if readable else None,
            loc=e.loc,
        )
