"""What OpenAPI says of each operation. Written here because the handlers read raw bytes."""

from __future__ import annotations

from typing import Final

from models.schema import Candidate, FeedbackEvent
from service import wire
from service.http.openapi.parts import STATUSES, Json, json, link, operation, parameter, ref
from service.http.openapi.schemas import ID

EVENT: Final[Json] = {
    "event_id": "e1",
    "user_id": "u1",
    "video_id": "v1",
    "timestamp_ms": 1651330969569,
    "watch_time_s": 48.4,
    "duration_s": 24.0,
    "like": True,
}

VERSION: Final = "20261121-1a2b3c4d"
NEXT: Final = "20261128-5e6f7a8b"

USER_ID: Final = parameter("user_id", ID["anyOf"][0], "Percent-encoded.", "path")
BODY_ERRORS: Final = ("400", "401", "403", "408", "413", "415", "422", "429", "503")

_LABELS: Final = "Comma-separated; GET /v1/models lists them. Its `labels_by_user` want PUT /users first."
LABEL: Final = operation(
    ref(wire.LabelReply),
    {
        "status": "ok",
        "accepted": 1,
        "duplicates": 0,
        "merged": 0,
        "rejected": [],
        "labels": [
            {
                "event_id": "e1",
                "user_id": "u1",
                "video_id": "v1",
                "label": 0.83,
                "labels": {"labelcraft": 0.83},
                "duplicate": False,
            }
        ],
        "model_version": VERSION,
        "took_ms": 1.9,
    },
    *BODY_ERRORS,
    "409",
    body=json(
        {
            "anyOf": [
                ref(wire.Events),
                ref(FeedbackEvent),
                {"type": "array", "items": ref(FeedbackEvent)},
            ]
        },
        events={"events": [EVENT]},
        one=EVENT,
        array=[EVENT],
    )
    | {
        "application/x-ndjson": {
            "schema": {"type": "array", "items": ref(FeedbackEvent)},
            "example": [EVENT],
        }
    },
    query=[
        parameter("labels", {"type": "array", "items": {"type": "string"}, "minItems": 1}, _LABELS)
        | {"style": "form", "explode": False},
        parameter("store", {"type": "boolean", "default": True}, "false: label only."),
    ],
)
LABEL["responses"]["200"]["content"]["application/x-ndjson"] = {
    "schema": {"type": "string"},
    "example": '{"event_id": "e1", "user_id": "u1", "video_id": "v1", "label": 0.83, …}\n'
    '{"index": 1, "code": "malformed", "detail": "…"}\n{"status": "ok", "accepted": 1, …}\n',
}

_OF_USER: Final = {"user_id": "$response.body#/labels/0/user_id"}
LABEL["responses"]["200"]["links"] = {
    "sequence": link("What is held now.", "/users/{user_id}/sequence", "get", _OF_USER),
    "forget": link("The user wants to be forgotten.", "/users/{user_id}", "delete", _OF_USER),
}

EXPLAIN: Final = parameter(
    "explain", {"type": "boolean", "default": False}, "Tell of every item where its score comes from."
)
DEADLINE: Final = parameter(
    "X-Deadline-Ms",
    {"type": "number", "exclusiveMinimum": 0, "default": 200},
    "Past it, 503.",
    "header",
)
RERANK: Final = operation(
    ref(wire.RerankReply),
    {
        "request_id": "r1",
        "items": [
            {
                "video_id": "v2",
                "rank": 1,
                "score": 0.71,
                "watch_time_s": 11.2,
                "watch_ratio": 0.56,
                "objectives": {"watch_time": 0.79, "interest": 0.64},
            }
        ],
        "model_version": VERSION,
        "degraded": [],
        "warnings": [],
        "history_length": 37,
        "took_ms": 1.1,
    },
    *BODY_ERRORS,
    body=json(
        ref(wire.RerankRequest),
        slate={
            "request_id": "r1",
            "user_id": "u1",
            "candidates": [
                {"video_id": "v1", "duration_s": 20.0, "author_id": "a7", "tag": "39"},
                {"video_id": "v2"},
            ],
            "top_k": 100,
            "weights": {"watch_time": 1.0, "interest": 1.0},
        },
    ),
    query=[
        EXPLAIN,
        DEADLINE,
    ],
)

SEQUENCE: Final = operation(
    ref(wire.Sequence),
    {"user_id": "u1", "events": [EVENT], "profile": {}},
    "401", "403", "404", "422", "503",
    query=[USER_ID],
)  # fmt: skip
FORGET: Final = operation(
    ref(wire.Forgotten),
    {"user_id": "u1", "known": True, "status": "ok"},
    "401", "403", "422", "503",
    query=[USER_ID],
)  # fmt: skip
PROFILES: Final = operation(
    ref(wire.Stored),
    {"accepted": 1, "status": "ok"},
    *BODY_ERRORS,
    body=json({"type": "array", "items": ref(wire.UserProfile)}, users=[{"user_id": "u1", "profile": {}}]),
)
PROFILES["responses"]["200"]["links"] = {
    "sequence": link(
        "The profile is in it.", "/users/{user_id}/sequence", "get", {"user_id": "$request.body#/0/user_id"}
    )
}
VIDEOS: Final = operation(
    ref(wire.Stored),
    {"accepted": 1, "status": "ok"},
    *BODY_ERRORS,
    body=json(
        {"type": "array", "items": ref(Candidate)},
        videos=[{"video_id": "v1", "duration_s": 20.0, "author_id": "a7", "tag": "39"}],
    ),
)
VIDEOS["responses"]["200"]["links"] = {
    "rank": link(
        "Entries are candidates too.",
        "/rerank",
        "post",
        body={"user_id": "u1", "candidates": "$request.body"},
    )
}
MODELS: Final = operation(
    {
        "type": "object",
        "required": ["active", "provider", "split", "shadow", "refused", "models"],
        "properties": {
            "active": {"type": ["string", "null"]},
            "provider": {"type": ["string", "null"]},
            "split": {"anyOf": [ref(wire.OnTrial), {"type": "null"}]},
            "shadow": {"anyOf": [ref(wire.OnTrial), {"type": "null"}]},
            "refused": {
                "type": "array",
                "items": {"type": "object", "required": ["role", "version", "detail"]},
            },
            "models": {"type": "array", "items": {"type": "object", "required": ["version", "active"]}},
        },
    },
    {
        "active": VERSION,
        "provider": "CPUExecutionProvider",
        "split": {"version": NEXT, "share": 0.1},
        "shadow": None,
        "refused": [],
        "models": [{"version": VERSION, "active": True}, {"version": NEXT, "active": False}],
    },
    "401", "403",
)  # fmt: skip
MODELS["responses"]["200"]["links"] = {
    "activate": link(
        "Any version listed.",
        "/v1/models/{version}:activate",
        "post",
        {"version": "$response.body#/models/0/version"},
    )
}
_VERSION: Final = parameter("version", {"type": "string"}, "As GET /v1/models lists it.", "path")
_ACTIVE: Final = {"model_version": VERSION, "provider": "CPUExecutionProvider"}
ACTIVATE: Final = operation(
    ref(wire.Active),
    _ACTIVE,
    "401", "403", "404", "409",
    query=[_VERSION],
)  # fmt: skip
SPLIT: Final = operation(
    ref(wire.Traffic),
    {"active": VERSION, "split": {"version": NEXT, "share": 0.1}, "shadow": None},
    *BODY_ERRORS, "404", "409",
    body=json(ref(wire.Share), begin={"share": 0.1}, end={"share": 0.0}),
    query=[_VERSION],
)  # fmt: skip
SHADOW: Final = operation(
    ref(wire.Traffic),
    {"active": VERSION, "split": None, "shadow": {"version": NEXT, "share": 0.05}},
    *BODY_ERRORS, "404", "409",
    body=json(ref(wire.Share), begin={"share": 0.05}, end={"share": 0.0}),
    query=[_VERSION],
)  # fmt: skip
ROLLBACK: Final = operation(ref(wire.Active), _ACTIVE, "401", "403", "404", "409")
LIVE: Final = operation(ref(wire.Health), {"status": "live", "model_version": None, "degraded": []})
READY: Final = operation(
    ref(wire.Health), {"status": "ready", "model_version": VERSION, "degraded": []}, "503"
)
METRICS: Final[Json] = {
    "responses": {
        "200": {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        "401": STATUSES["401"],
        "403": STATUSES["403"],
    }
}
