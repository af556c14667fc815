"""What OpenAPI says of each operation. Written here because the handlers read raw bytes.

The schemas are made from the very structs that decode and encode (`service.api.wire`, `models.schema`); the
rules that those check in code are added below, so that a client can know them all.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from models.schema import (
    MAX_DURATION_S,
    MAX_ID_BYTES,
    MAX_TIMESTAMP_MS,
    MAX_WATCH_TIME_S,
    MIN_DURATION_S,
    Candidate,
    FeedbackEvent,
)
from service.api import wire

Json = dict[str, Any]

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

_STRUCTS: Final = (
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
    wire.Health,
    wire.Problem,
)

_ID: Final[Json] = {
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
_OPTIONAL_ID: Final[Json] = _ID | {"anyOf": [*_ID["anyOf"], {"type": "null"}]}
_TIME: Final[Json] = {"type": "integer", "minimum": 0, "maximum": MAX_TIMESTAMP_MS}
_DURATION: Final[Json] = {
    "anyOf": [{"type": "number", "minimum": MIN_DURATION_S, "maximum": MAX_DURATION_S}, {"type": "null"}],
    "description": "Length of the video in seconds.",
}

_RULES: Final[dict[str, Json]] = {
    "FeedbackEvent": {
        "event_id": _ID,
        "user_id": _ID,
        "video_id": _ID,
        "timestamp_ms": _TIME,
        "watch_time_s": {"type": "number", "minimum": 0, "maximum": MAX_WATCH_TIME_S},
        "duration_s": _DURATION,
        **dict.fromkeys(("session_id", "tab", "device", "author_id", "tag"), _OPTIONAL_ID),
    },
    "Candidate": {
        "video_id": _ID,
        "duration_s": _DURATION,
        **dict.fromkeys(("author_id", "tag"), _OPTIONAL_ID),
    },
    "RerankRequest": {
        "user_id": _ID,
        **dict.fromkeys(("request_id", "tab"), _OPTIONAL_ID),
        "timestamp_ms": {"anyOf": [_TIME, {"type": "null"}]},
        "top_k": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}]},
    },
    "UserProfile": {"user_id": _ID},
}
"""By struct and member, the rules that `__post_init__` holds."""


def _ref(struct: type) -> Json:
    return {"$ref": f"#/components/schemas/{struct.__name__}"}


def _problem(description: str) -> Json:
    return {
        "description": description,
        "content": {"application/problem+json": {"schema": _ref(wire.Problem)}},
    }


_STATUSES: Final = {
    "400": _problem("Not JSON, or not UTF-8."),
    "401": _problem("No key."),
    "403": _problem("A key without the right."),
    "404": _problem("Unknown."),
    "409": _problem("Contradicts what is there."),
    "413": _problem("The body is larger than REELRANK_MAX_BODY_BYTES."),
    "415": _problem("Another content type, or a compressed body."),
    "422": _problem("Well-formed, but a value breaks its rule."),
    "503": _problem("No bundle, the store is away, or too late: see `Retry-After`."),
}


def _operation(
    reply: Json,
    example: Any = None,
    *statuses: str,
    body: Json | None = None,
    query: list[Json] | None = None,
) -> Json:
    content: Json = {"schema": reply}
    if example is not None:
        content["example"] = example
    out: Json = {
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": content}},
            **{status: _STATUSES[status] for status in statuses},
        }
    }
    if body is not None:
        out["requestBody"] = {"required": True, "content": body}
    if query:
        out["parameters"] = query
    return out


def _json(schema: Json, **examples: Any) -> Json:
    named = {name: {"value": value} for name, value in examples.items()}
    return {"application/json": {"schema": schema, "examples": named}}


def _parameter(name: str, schema: Json, description: str, place: str = "query") -> Json:
    required = place == "path"
    return {"name": name, "in": place, "required": required, "schema": schema, "description": description}


_USER_ID: Final = _parameter("user_id", _ID["anyOf"][0], "Percent-encoded.", "path")
_BODY_ERRORS: Final = ("400", "401", "403", "413", "415", "422", "503")

_LABELS: Final = "Comma-separated; GET /v1/models lists them. Its `labels_by_user` want PUT /users first."
LABEL: Final = _operation(
    _ref(wire.LabelReply),
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
    *_BODY_ERRORS,
    "409",
    body=_json(
        {
            "anyOf": [
                _ref(wire.Events),
                _ref(FeedbackEvent),
                {"type": "array", "items": _ref(FeedbackEvent)},
            ]
        },
        events={"events": [EVENT]},
        one=EVENT,
        array=[EVENT],
    )
    | {"application/x-ndjson": {"schema": {"type": "string"}, "example": '{"event_id": "e1", …}\n'}},
    query=[
        _parameter("labels", {"type": "string"}, _LABELS),
        _parameter("store", {"type": "boolean", "default": True}, "false: label only."),
    ],
)
LABEL["responses"]["200"]["content"]["application/x-ndjson"] = {
    "schema": {"type": "string"},
    "example": '{"event_id": "e1", "user_id": "u1", "video_id": "v1", "label": 0.83, …}\n'
    '{"index": 1, "code": "malformed", "detail": "…"}\n{"status": "ok", "accepted": 1, …}\n',
}

RERANK: Final = _operation(
    _ref(wire.RerankReply),
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
    *_BODY_ERRORS,
    body=_json(
        _ref(wire.RerankRequest),
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
        _parameter("explain", {"type": "boolean", "default": False}, "Add `explanation` to every item."),
        _parameter(
            "X-Deadline-Ms",
            {"type": "number", "exclusiveMinimum": 0, "default": 200},
            "Past it, 503.",
            "header",
        ),
    ],
)

SEQUENCE: Final = _operation(
    _ref(wire.Sequence),
    {"user_id": "u1", "events": [EVENT], "profile": {}},
    "401", "403", "404", "422", "503",
    query=[_USER_ID],
)  # fmt: skip
FORGET: Final = _operation(
    _ref(wire.Forgotten),
    {"user_id": "u1", "known": True, "status": "ok"},
    "401", "403", "422", "503",
    query=[_USER_ID],
)  # fmt: skip
PROFILES: Final = _operation(
    _ref(wire.Stored),
    {"accepted": 1, "status": "ok"},
    *_BODY_ERRORS,
    body=_json({"type": "array", "items": _ref(wire.UserProfile)}, users=[{"user_id": "u1", "profile": {}}]),
)
VIDEOS: Final = _operation(
    _ref(wire.Stored),
    {"accepted": 1, "status": "ok"},
    *_BODY_ERRORS,
    body=_json(
        {"type": "array", "items": _ref(Candidate)},
        videos=[{"video_id": "v1", "duration_s": 20.0, "author_id": "a7", "tag": "39"}],
    ),
)
MODELS: Final = _operation(
    {
        "type": "object",
        "required": ["active", "provider", "models"],
        "properties": {
            "active": {"type": ["string", "null"]},
            "provider": {"type": ["string", "null"]},
            "models": {"type": "array", "items": {"type": "object", "required": ["version", "active"]}},
        },
    },
    {"active": VERSION, "provider": "CPUExecutionProvider", "models": [{"version": VERSION, "active": True}]},
    "401", "403",
)  # fmt: skip
_ACTIVE: Final = {"model_version": VERSION, "provider": "CPUExecutionProvider"}
ACTIVATE: Final = _operation(
    _ref(wire.Active),
    _ACTIVE,
    "401", "403", "404", "409",
    query=[_parameter("version", {"type": "string"}, "As GET /v1/models lists it.", "path")],
)  # fmt: skip
ROLLBACK: Final = _operation(_ref(wire.Active), _ACTIVE, "401", "403", "404", "409")
LIVE: Final = _operation(_ref(wire.Health), {"status": "live", "model_version": None, "degraded": []})
READY: Final = _operation(
    _ref(wire.Health), {"status": "ready", "model_version": VERSION, "degraded": []}, "503"
)
METRICS: Final[Json] = {
    "responses": {
        "200": {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}}}},
        "401": _STATUSES["401"],
        "403": _STATUSES["403"],
    }
}


def install(app: FastAPI, *, keys: bool) -> None:
    """Make `/openapi.json` complete.

    Args:
        app: with every route added.
        keys: whether API keys are configured, so that /docs offers to send one.
    """

    def openapi() -> Json:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, keys)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI, keys: bool) -> Json:
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    _, schemas = msgspec.json.schema_components(_STRUCTS, ref_template="#/components/schemas/{name}")
    for struct, members in _RULES.items():
        for member, rule in members.items():
            default = {k: v for k, v in schemas[struct]["properties"][member].items() if k == "default"}
            schemas[struct]["properties"][member] = rule | default
    schemas["RerankRequest"]["properties"]["candidates"]["minItems"] = 1
    components = document.setdefault("components", {})
    components["schemas"] = schemas
    # The framework writes `{user_id:path}` as it is in the route.
    document["paths"] = {path.replace(":path}", "}"): item for path, item in document["paths"].items()}
    if keys:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document
