"""OpenAPI of Metarank's endpoints."""

from __future__ import annotations

from typing import Final

from models.manifest import Manifest
from models.schema import MAX_TIMESTAMP_MS
from service.adapters.metarank import wire
from service.http.openapi.document import (
    BODY_ERRORS,
    Json,
    Section,
    array,
    json,
    ndjson,
    operation,
    ref,
    structs_in,
)
from service.http.openapi.operations import DEADLINE, EXPLAIN

DEFAULT: Final = "default"
"""The model that weighs the objectives as the bundle does."""

_EVENTS: Final = (wire.ItemEvent, wire.UserEvent, wire.RankingEvent, wire.InteractionEvent)
_ANY_EVENT: Final[Json] = {"oneOf": [ref(event) for event in _EVENTS]}
_INTERACTION: Final[Json] = {
    "event": "interaction",
    "id": "0f4c0036",
    "ranking": "81f46c34",
    "timestamp": "1651330969569",
    "user": "u1",
    "session": "s1",
    "type": "watch",
    "item": "v1",
    "fields": [{"name": "watch_time_s", "value": 48.4}, {"name": "duration_s", "value": 24.0}],
}
_ITEM: Final[Json] = {
    "event": "item",
    "id": "81f46c34",
    "timestamp": "2022-04-30T15:02:49Z",
    "item": "v1",
    "fields": [{"name": "duration_s", "value": 24.0}, {"name": "tag", "value": ["39"]}],
}
FEEDBACK: Final = operation(
    wire.FeedbackReply("ok", accepted=1, updated=1, tookMillis=2, ignored=0, rejected=[]),
    *BODY_ERRORS,
    "409",
    body=json(
        {"anyOf": [_ANY_EVENT, array(_ANY_EVENT)]}, interaction=_INTERACTION, several=[_ITEM, _INTERACTION]
    )
    | ndjson(array(_ANY_EVENT, minItems=1), [_ITEM, _INTERACTION]),
)
_DURATION: Final = {"name": "duration_s", "value": 20.0}
RANK: Final = operation(
    wire.RankReply(1, [wire.RankedScore("v2", 0.71), wire.RankedScore("v1", 0.52)]),
    *BODY_ERRORS,
    "404",
    body=json(
        ref(wire.RankRequest),
        slate={
            "id": "81f46c34",
            "timestamp": "1651330970000",
            "user": "u1",
            "session": "s1",
            "items": [{"id": "v1", "fields": [_DURATION]}, {"id": "v2"}],
        },
    ),
    parameters=[EXPLAIN, DEADLINE],
)
_TIMESTAMP: Final[Json] = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": MAX_TIMESTAMP_MS},
        {"type": "string", "pattern": "^[0-9]{1,14}$"},
        {"type": "string", "format": "date-time"},
    ],
    "description": "Unix milliseconds, as a number or a string, or ISO 8601.",
}


def _complete(document: Json, manifest: Manifest | None) -> None:
    for struct in (*_EVENTS, wire.RankRequest):
        document["components"]["schemas"][struct.__name__]["properties"]["timestamp"] = _TIMESTAMP
    if manifest is not None:
        (model, *_) = document["paths"]["/rank/{model}"]["post"]["parameters"]
        model["schema"]["enum"] = [DEFAULT, *manifest.objectives]


SECTION: Final = Section(structs_in(wire), _complete)
