"""The schemas: made from the very structs that decode and encode (`service.wire`, `models.schema`).

The rules that those check in code are added, so that a client can know them all.
"""

from __future__ import annotations

from typing import Final

from models.schema import (
    MAX_DURATION_S,
    MAX_ID_BYTES,
    MAX_TIMESTAMP_MS,
    MAX_WATCH_TIME_S,
    MIN_DURATION_S,
    Candidate,
    FeedbackEvent,
)
from service import wire
from service.adapters.metarank import wire as metarank
from service.adapters.open_inference import wire as oip
from service.http.openapi.parts import Json

STRUCTS: Final = (
    FeedbackEvent,
    Candidate,
    wire.Events,
    wire.LabelReply,
    wire.StreamSummary,
    wire.RerankRequest,
    wire.RerankReply,
    wire.Sequence,
    wire.UserProfile,
    wire.Stored,
    wire.Forgotten,
    wire.Active,
    wire.Share,
    wire.OnTrial,
    wire.Traffic,
    wire.Health,
    wire.Problem,
    *metarank.STRUCTS,
    *oip.STRUCTS,
)

ID: Final[Json] = {
    "anyOf": [
        {
            "type": "string",
            "minLength": 1,
            "maxLength": MAX_ID_BYTES,
            "pattern": "^[^\\x00-\\x1f\\x7f-\\x9f]*$",
        },
        {"type": "integer"},
    ],
    "description": f"1 to {MAX_ID_BYTES} bytes of UTF-8 without control characters; an integer means its "
    "decimal string.",
}
_OPTIONAL_ID: Final[Json] = ID | {"anyOf": [*ID["anyOf"], {"type": "null"}]}
_TIME: Final[Json] = {"type": "integer", "minimum": 0, "maximum": MAX_TIMESTAMP_MS}
_DURATION: Final[Json] = {
    "anyOf": [{"type": "number", "minimum": MIN_DURATION_S, "maximum": MAX_DURATION_S}, {"type": "null"}],
    "description": "Length of the video in seconds.",
}

_MOMENT: Final[Json] = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": MAX_TIMESTAMP_MS},
        {"type": "string", "pattern": "^[0-9]{1,14}$"},
        {"type": "string", "format": "date-time"},
    ],
    "description": "Unix milliseconds, as a number or a string, or ISO 8601.",
}
_METARANK: Final[Json] = {"timestamp": _MOMENT, "id": _OPTIONAL_ID}
_VISITOR: Final[Json] = dict.fromkeys(("user", "session"), _OPTIONAL_ID)

RULES: Final[dict[str, Json]] = {
    "FeedbackEvent": {
        "event_id": ID,
        "user_id": ID,
        "video_id": ID,
        "timestamp_ms": _TIME,
        "watch_time_s": {"type": "number", "minimum": 0, "maximum": MAX_WATCH_TIME_S},
        "duration_s": _DURATION,
        **dict.fromkeys(("session_id", "tab", "device", "author_id", "tag"), _OPTIONAL_ID),
    },
    "Candidate": {
        "video_id": ID,
        "duration_s": _DURATION,
        **dict.fromkeys(("author_id", "tag"), _OPTIONAL_ID),
    },
    "RerankRequest": {
        "user_id": ID,
        **dict.fromkeys(("request_id", "tab"), _OPTIONAL_ID),
        "timestamp_ms": {"anyOf": [_TIME, {"type": "null"}]},
        "top_k": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
    },
    "UserProfile": {"user_id": ID},
    "ItemEvent": {**_METARANK, "item": ID},
    "UserEvent": {**_METARANK, "user": ID},
    "RankingEvent": {**_METARANK, **_VISITOR, "id": ID},
    "InteractionEvent": {**_METARANK, **_VISITOR, "item": ID, "ranking": _OPTIONAL_ID},
    "RankRequest": {
        **_METARANK,
        **_VISITOR,
        "items": {"type": "array", "items": {"$ref": "#/components/schemas/RankedItem"}, "minItems": 1},
    },
    "RankedItem": {"id": ID},
    "InputTensor": {
        "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "datatype": {"enum": ["FP32", "INT64"]},
    },
    "Share": {"share": {"type": "number", "minimum": 0, "maximum": 1}},
}
"""By struct and member, the rules that `__post_init__` holds."""
