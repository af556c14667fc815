"""A body of POST /feedback -> events, one by one: what cannot be read is refused alone."""

from __future__ import annotations

import json
from typing import Any, Final

from starlette.requests import Request

from models.errors import Invalid, NotJson
from models.schema import MAX_ID_BYTES
from service.adapters.metarank.wire import Event
from service.http.request import JSON, NDJSON, content_type
from service.pipeline.decoding import check_containers, check_count, convert
from service.wire import Rejected

Read = Event | Rejected

_DECODER: Final = json.JSONDecoder()
_BETWEEN: Final = " \t\r\n,"


def checked_type(request: Request) -> None:
    """Metarank does not look at the type, and its clients send what their library makes of nothing: curl's
    `-d` says it is a form. But a form is also what any page in a browser may send to us, with its `Origin`.

    Raises:
        WrongContentType: not JSON, and from a page; or compressed.
    """
    if "origin" in request.headers or request.headers.get("content-encoding"):
        content_type(request, JSON, NDJSON)


def read_body(body: bytes, limit: int) -> list[Read]:
    """One event, an array of them, or any number of both behind each other, lines or not.

    Raises:
        NotJson: not JSON, or not UTF-8.
        Invalid: more than `limit` events, or more of anything than they could have.
    """
    events: list[Any] = []
    for value in _values(body):
        events += value if isinstance(value, list) else [value]
        check_count(events, limit, "events", "REELRANK_MAX_EVENTS")
    return [_one(value, index) for index, value in enumerate(events)]


def _values(body: bytes) -> list[Any]:
    check_containers(body)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as e:
        raise NotJson(f"The body is not UTF-8: byte {e.start} is wrong.") from None
    values = []
    at, end = 0, len(text.rstrip(_BETWEEN))
    try:
        while at < end:
            while text[at] in _BETWEEN:
                at += 1
            value, at = _DECODER.raw_decode(text, at)
            values.append(value)
    except RecursionError:
        raise NotJson("The body is nested too deep.") from None
    except ValueError as e:
        raise NotJson(f"Value {len(values) + 1} of the body is not JSON: {e}.") from None
    if not values:
        raise NotJson("The body is empty; an empty list of events is [].")
    return values


def _one(value: Any, index: int) -> Read:
    if not isinstance(value, dict):
        found = "null" if value is None else type(value).__name__
        return Rejected(index=index, code="malformed", detail=f"An event is an object, found {found}.")
    try:
        event: Event = convert(value, Event)  # type: ignore[arg-type]  # a union is a type to msgspec
    except Invalid as e:
        named = value.get("id")
        event_id = named[:MAX_ID_BYTES] if isinstance(named, str) else None
        return Rejected(index=index, code="invalid", detail=str(e), event_id=event_id, loc=e.loc)
    return event
