"""OpenAPI of the service's own endpoints; the adapters describe theirs."""

from __future__ import annotations

from typing import Final

from models import experiment_report
from models.experiment_report import ArmFigures, ArmUsers, ExperimentReport, GuardrailVerdict, Look
from models.manifest import Manifest
from models.schema import Candidate, FeedbackEvent, HistoryEntry, Video
from models.served_log import LoggedEvent, LoggedSlate
from models.video_features import MAX_VALUES
from service import slate_rules, wire
from service.http.openapi.document import (
    BODY_ERRORS,
    PROBLEMS,
    Json,
    Section,
    array,
    json,
    link,
    ndjson,
    operation,
    parameter,
    ref,
    structs_in,
)
from service.inference.experiments import Arm, Experiment, NewExperiment

VERSION: Final = "20261121-1a2b3c4d"
NEXT_VERSION: Final = "20261128-5e6f7a8b"

EVENT: Final = FeedbackEvent(
    event_id="e1",
    user_id="u1",
    video_id="v1",
    timestamp_ms=1651330969569,
    watch_time_s=48.4,
    duration_s=24.0,
    like=True,
)
VIDEO: Final = Candidate(video_id="v1", duration_s=20.0, author_id="a7", tag="39")

EXPLAIN: Final = parameter(
    "explain", {"type": "boolean", "default": False}, description="Return the parts of each item's score."
)
DEADLINE: Final = parameter(
    "X-Deadline-Ms", {"type": "number", "exclusiveMinimum": 0, "default": 200}, "header", "Past it, 503."
)
_LABELS: Final = {
    **parameter(
        "labels",
        array({"type": "string"}, minItems=1),
        description="Comma-separated, from GET /v1/models. Its `labels_by_user` need PUT /users first.",
    ),
    "style": "form",
    "explode": False,
}
_STORE: Final = parameter("store", {"type": "boolean", "default": True}, description="false: label only.")
_LABELLED_USER: Final = {"user_id": "$response.body#/labels/0/user_id"}
_LABELLED: Final = wire.Label("e1", "u1", "v1", 0.83, {"labelcraft": 0.83}, 0.97, {"labelcraft": 0.97})
LABEL: Final = operation(
    wire.LabelReply("ok", 1, 0, 0, [], [_LABELLED], VERSION, 1.9),
    *BODY_ERRORS,
    "409",
    body=json(
        {"anyOf": [ref(wire.Events), ref(FeedbackEvent), array(ref(FeedbackEvent))]},
        events={"events": [EVENT]},
        one=EVENT,
        array=[EVENT],
    )
    | ndjson(array(ref(FeedbackEvent)), [EVENT]),
    parameters=[_LABELS, _STORE],
    links={
        "sequence": link("get /users/{user_id}/sequence", parameters=_LABELLED_USER),
        "forget": link("delete /users/{user_id}", parameters=_LABELLED_USER),
    },
)
LABEL["responses"]["200"]["content"] |= ndjson(
    {"type": "string"},
    '{"event_id": "e1", "user_id": "u1", "video_id": "v1", "label": 0.83, "percentile": 0.97, …}\n'
    '{"index": 1, "code": "malformed", "detail": "…"}\n{"status": "ok", "accepted": 1, …}\n',
)

_ITEM: Final = wire.Item("v2", 1, 0.71, 11.2, 0.56, {"watch_time": 0.79, "interest": 0.64}, 14.8)
_SLATE: Final[Json] = {
    "request_id": "r1",
    "user_id": "u1",
    "candidates": [VIDEO, {"video_id": "v2"}],
    "top_k": 100,
    "weights": {"watch_time": 1.0, "interest": 1.0},
}
_RULES: Final = slate_rules.Rules(exclude_hated="author", author_decay=0.5, max_per_author=2, pin={"v1": 1})
RERANK: Final = operation(
    wire.RerankReply("r1", [_ITEM], VERSION, degraded=[], warnings=[], history_length=37, took_ms=1.1),
    *BODY_ERRORS,
    body=json(ref(wire.RerankRequest), slate=_SLATE, rules=_SLATE | {"rules": _RULES}),
    parameters=[EXPLAIN, DEADLINE],
)

SEQUENCE: Final = operation(wire.Sequence("u1", [EVENT], {}), "401", "403", "404", "422", "503")
FORGET: Final = operation(wire.Forgotten("u1", known=True), "401", "403", "422", "503")
_ENTRY: Final = HistoryEntry(video_id="v1", long_view=True)
_FIRST_USER: Final = {"user_id": "$request.body#/0/user_id"}
PROFILES: Final = operation(
    wire.Stored(1),
    *BODY_ERRORS,
    body=json(array(ref(wire.UserProfile)), users=[wire.UserProfile("u1", {}, [_ENTRY])]),
    links={"sequence": link("get /users/{user_id}/sequence", parameters=_FIRST_USER)},
)
_SLATE_OF_VIDEOS: Final = {"user_id": "u1", "candidates": "$request.body"}
VIDEOS: Final = operation(
    wire.Stored(1),
    *BODY_ERRORS,
    body=json(array(ref(Video)), videos=[VIDEO]),
    links={"rank": link("post /rerank", requestBody=_SLATE_OF_VIDEOS)},
)

_BY_VERSION: Final = parameter(
    "version",
    {"type": "string"},
    description="One in memory: active, on trial, or the one before. By default that which answers the user.",
)
PREVIEW_RERANK: Final = operation(
    wire.RerankReply("r1", [_ITEM], VERSION, degraded=[], warnings=[], history_length=37, took_ms=1.1),
    *BODY_ERRORS,
    "404",
    body=json(ref(wire.RerankRequest), slate=_SLATE),
    parameters=[EXPLAIN, _BY_VERSION, DEADLINE],
)
_INFLUENCE: Final = wire.Influence("v9", 1651330969569, 0.02, 1.4)
PREVIEW_INFLUENCE: Final = operation(
    wire.InfluenceReply([wire.InfluencedItem("v2", 0.71, 11.2, [_INFLUENCE])], VERSION, [], 4.2),
    *BODY_ERRORS,
    "404",
    body=json(ref(wire.RerankRequest), slate=_SLATE),
    parameters=[_BY_VERSION, DEADLINE],
)
PREVIEW_LABEL: Final = operation(
    wire.LabelReply("ok", 1, 0, 0, [], [_LABELLED], VERSION, 1.9),
    *BODY_ERRORS,
    "404",
    body=json(
        {"anyOf": [ref(wire.Events), ref(FeedbackEvent), array(ref(FeedbackEvent))]},
        events={"events": [EVENT]},
    ),
    parameters=[_LABELS, _BY_VERSION, DEADLINE],
)
_LOGGED: Final = LoggedSlate(
    request_id="r1",
    user_id="u1",
    timestamp_ms=1651330969569,
    model_version=VERSION,
    weights={"watch_time": 1.0},
    returned=1,
    history_length=37,
    video_id=["v2", "v1"],
    score=[0.71, 0.43],
)
_LIMIT: Final[Json] = {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
SLATES: Final = operation(
    [_LOGGED], "401", "403", "422", schema=array(ref(LoggedSlate)), parameters=[parameter("limit", _LIMIT)]
)
_AGAIN: Final = LoggedEvent(
    event_id="e1",
    user_id="u1",
    video_id="v1",
    timestamp_ms=1651330969569,
    watch_time_s=48.4,
    duration_s=24.0,
    outcome="duplicate",
    logged_at_ms=1651330971210,
)
_USER: Final = parameter("user_id", {"type": "string"}) | {"required": True}
LOGGED_EVENTS: Final = operation(
    [_AGAIN],
    "401",
    "403",
    "422",
    schema=array(ref(LoggedEvent)),
    parameters=[_USER, parameter("limit", _LIMIT | {"maximum": 1000})],
)
KEY: Final = operation(wire.KeyRights(["label", "rerank", "read"]), "401")

_ROLLOUT: Final[Json] = {"anyOf": [ref(wire.OnTrial), {"type": "null"}]}
_TEXT_OR_NULL: Final[Json] = {"type": ["string", "null"]}
_MODELS: Final[Json] = {  # written here because only two members of a version are always present
    "active": _TEXT_OR_NULL,
    "provider": _TEXT_OR_NULL,
    "split": _ROLLOUT,
    "shadow": _ROLLOUT,
    "refused": array({"type": "object", "required": ["role", "version", "detail"]}),
    "models": array({"type": "object", "required": ["version", "active"]}),
}
_ACTIVE: Final = wire.Active(VERSION, "CPUExecutionProvider")
_SPLIT: Final = wire.OnTrial(NEXT_VERSION, 0.1)
_VERSIONS: Final = [{"version": VERSION, "active": True}, {"version": NEXT_VERSION, "active": False}]
_FIRST_VERSION: Final = {"version": "$response.body#/models/0/version"}
MODELS: Final = operation(
    {
        "active": VERSION,
        "provider": _ACTIVE.provider,
        "split": _SPLIT,
        "shadow": None,
        "refused": [],
        "models": _VERSIONS,
    },
    "401",
    "403",
    schema={"type": "object", "required": [*_MODELS], "properties": _MODELS},
    links={"activate": link("post /v1/models/{version}:activate", parameters=_FIRST_VERSION)},
)
_EVALUATED: Final[Json] = {"type": ["object", "null"]}
_MODEL: Final[Json] = {
    "learned_labels": _EVALUATED,
    "evaluation": _EVALUATED,
    "reference": {"type": "object"},
}
MODEL: Final = operation(
    {"version": VERSION, "active": True, "learned_labels": None, "evaluation": None, "reference": {}},
    "401",
    "403",
    "404",
    schema={"type": "object", "required": ["version", "active"], "properties": _MODEL},
)
ACTIVATE: Final = operation(_ACTIVE, "401", "403", "404", "409")
ROLLBACK: Final = operation(_ACTIVE, "401", "403", "404", "409")


def _rollout(example: wire.Traffic, share: float) -> Json:
    body = json(ref(wire.Share), begin={"share": share}, end={"share": 0.0})
    return operation(example, *BODY_ERRORS, "404", "409", body=body)


_ARMS: Final = [Arm(name="A"), Arm(name="B", version=NEXT_VERSION, weights={"watch_time": 1.0})]
_NEW: Final = NewExperiment(name="next", share=0.2, arms=_ARMS)
_STARTED: Final = Experiment(
    name="next", share=0.2, arms=_ARMS, buckets=[(0, 2000)], started_ms=1764460800000
)
EXPERIMENTS: Final = operation([_STARTED], "401", "403", "409", schema=array(ref(Experiment)))
START_EXPERIMENT: Final = operation(
    _STARTED, *BODY_ERRORS, "404", "409", body=json(ref(NewExperiment), start=_NEW)
)
STOP_EXPERIMENT: Final = operation(_STARTED, "401", "403", "404", "409", "422", "503")
_FOUND: Final = {
    "A": ArmFigures(412.0, 5012),
    "B": ArmFigures(420.2, 4987, 0.02, (0.004, 0.036), (-0.003, 0.043), 0.014),
}
REPORTS: Final = operation(
    [
        ExperimentReport(
            name="next",
            control="A",
            start_ms=1764460800000,
            end_ms=1764547200000,
            arms=[ArmUsers("A", 0.5, 5012), ArmUsers("B", 0.5, 4987)],
            sample_ratio_p=0.8,
            sample_ratio_flagged=False,
            metrics={"watch_time_s": _FOUND},
            looks=[Look(1764547200000, _FOUND)],
            guardrails=[GuardrailVerdict("hate", 0.05, "B", "holds")],
        )
    ],
    "401",
    "403",
    schema=array(ref(ExperimentReport)),
)
SPLIT: Final = _rollout(wire.Traffic(VERSION, _SPLIT, None), 0.1)
SHADOW: Final = _rollout(wire.Traffic(VERSION, None, wire.OnTrial(NEXT_VERSION, 0.05)), 0.05)

LIVE: Final = operation(wire.Health("live"))
READY: Final = operation(wire.Health("ready", VERSION), "503")
_METRICS: Final = {"text/plain": {"schema": {"type": "string"}}}
METRICS: Final[Json] = {
    "responses": {
        "200": {"description": "Prometheus text.", "content": _METRICS},
        "401": PROBLEMS["401"],
        "403": PROBLEMS["403"],
    }
}


def _complete(document: Json, manifest: Manifest | None) -> None:
    """Write the names of labels, objectives and profile features where the structs allow any."""
    schemas, paths = document["components"]["schemas"], document["paths"]
    text, _ = schemas["UserProfile"]["properties"]["user_id"]["anyOf"]
    schemas["UserProfile"]["anyOf"] = [{"required": [name]} for name in ("profile", "history")]
    for user in (paths["/users/{user_id}"]["delete"], paths["/users/{user_id}/sequence"]["get"]):
        user["parameters"][0] |= {"schema": text, "description": "Percent-encoded."}
    paths["/v1/events"]["get"]["parameters"][0]["schema"] = text
    if manifest is None:
        return
    number: Json = {"type": "number"}
    objectives = [*manifest.objectives]
    for path in ("/label", "/v1/preview/label"):
        paths[path]["post"]["parameters"][0]["schema"]["items"] = {"enum": [*manifest.labels]}
    members = schemas["RerankRequest"]["properties"]
    weights = _object(dict.fromkeys(objectives, number)) | {"minProperties": 1}
    members["weights"]["anyOf"] = [weights, {"type": "null"}]
    members["objectives"]["anyOf"] = [array({"enum": objectives}), {"type": "null"}]
    category: Json = {"anyOf": [text, number]}
    schemas["UserProfile"]["properties"]["profile"] = _object(
        dict.fromkeys(manifest.profile_numbers, number) | dict.fromkeys(manifest.profile_categories, category)
    )
    own = manifest.video_features
    several: Json = {"anyOf": [category, array(category) | {"maxItems": MAX_VALUES}]}
    features = dict.fromkeys(own.numbers, number) | dict.fromkeys(own.categories, several)
    for name, width in own.embeddings.items():
        features[name] = array(number) | {"minItems": width, "maxItems": width}
    schemas["Video"]["properties"]["features"]["anyOf"] = [_object(features), {"type": "null"}]


def _object(members: Json) -> Json:
    return {"type": "object", "properties": members, "additionalProperties": False}


_ANSWERED: Final = [struct for struct in structs_in(wire) if struct not in (wire.Model, wire.Models)]
SECTION: Final = Section(
    [
        *_ANSWERED,
        *structs_in(slate_rules),
        *structs_in(experiment_report),
        LoggedSlate,
        LoggedEvent,
        Video,
        Arm,
        NewExperiment,
        Experiment,
    ],
    _complete,
)
