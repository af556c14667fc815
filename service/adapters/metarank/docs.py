"""What OpenAPI says of Metarank's operations."""

from __future__ import annotations

from typing import Final

from service.adapters.metarank import wire
from service.http.openapi.operations import BODY_ERRORS, DEADLINE, EXPLAIN
from service.http.openapi.parts import Json, json, operation, parameter, ref

EVENT: Final[Json] = {
    "oneOf": [
        ref(event) for event in (wire.ItemEvent, wire.UserEvent, wire.RankingEvent, wire.InteractionEvent)
    ]
}
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
    ref(wire.FeedbackReply),
    {"status": "ok", "accepted": 1, "updated": 1, "tookMillis": 2, "ignored": 0, "rejected": []},
    *BODY_ERRORS,
    "409",
    body=json(
        {"anyOf": [EVENT, {"type": "array", "items": EVENT}]},
        interaction=_INTERACTION,
        several=[_ITEM, _INTERACTION],
    )
    | {
        "application/x-ndjson": {
            "schema": {"type": "array", "items": EVENT, "minItems": 1},
            "example": [_ITEM, _INTERACTION],
        }
    },
)
RANK: Final = operation(
    ref(wire.RankReply),
    {"took": 1, "items": [{"item": "v2", "score": 0.71}, {"item": "v1", "score": 0.52}]},
    *BODY_ERRORS,
    "404",
    body=json(
        ref(wire.RankRequest),
        slate={
            "id": "81f46c34",
            "timestamp": "1651330970000",
            "user": "u1",
            "session": "s1",
            "items": [{"id": "v1", "fields": [{"name": "duration_s", "value": 20.0}]}, {"id": "v2"}],
        },
    ),
    query=[
        parameter("model", {"type": "string"}, "`default`, or an objective of the bundle.", "path"),
        EXPLAIN,
        DEADLINE,
    ],
)
