"""What OpenAPI says of the protocol's operations."""

from __future__ import annotations

from typing import Final

from service import wire
from service.adapters.open_inference import wire as oip
from service.http.openapi.operations import VERSION
from service.http.openapi.parts import Json, json, link, operation, parameter, ref

_MODEL: Final = parameter("model", {"type": "string", "enum": ["labeler", "ranker"]}, "The graph.", "path")
_VERSION: Final = parameter(
    "version", {"type": "string"}, "The one that answers, see GET /v1/models.", "path"
)
_ERRORS: Final = ("401", "403", "404", "503")

SERVER: Final = operation(
    ref(oip.ServerMetadata),
    {"name": "reelrank", "version": "0.1.0", "extensions": ["binary_tensor_data"]},
    "401", "403",
)  # fmt: skip
LIVE: Final = operation(ref(wire.Health), {"status": "live", "model_version": None, "degraded": []})
READY: Final = operation(
    ref(wire.Health), {"status": "ready", "model_version": VERSION, "degraded": []}, "503"
)

_METADATA: Final[Json] = {
    "name": "labeler",
    "versions": [VERSION],
    "platform": "onnxruntime_onnx",
    "inputs": [{"name": "feedback", "datatype": "FP32", "shape": [-1, 8]}],
    "outputs": [{"name": "labelcraft", "datatype": "FP32", "shape": [-1]}],
}
MODEL: Final = operation(ref(oip.ModelMetadata), _METADATA, *_ERRORS, query=[_MODEL])
MODEL_VERSION: Final = operation(ref(oip.ModelMetadata), _METADATA, *_ERRORS, query=[_MODEL, _VERSION])
_THIS: Final = {"model": "$response.body#/name", "version": "$response.body#/versions/0"}
_VERSIONED: Final = "/v2/models/{model}/versions/{version}"
MODEL["responses"]["200"]["links"] = {
    "version": link("The version that answers.", _VERSIONED, "get", _THIS),
    "ready": link("Whether it does.", f"{_VERSIONED}/ready", "get", _THIS),
    "infer": link("Ask it.", f"{_VERSIONED}/infer", "post", _THIS),
}

_READY: Final = {"name": "labeler", "ready": True}
MODEL_READY: Final = operation(ref(oip.ModelReady), _READY, "404", "503", query=[_MODEL])
MODEL_VERSION_READY: Final = operation(ref(oip.ModelReady), _READY, "404", "503", query=[_MODEL, _VERSION])

_ASKED: Final[Json] = {
    "id": "42",
    "inputs": [
        {
            "name": "feedback",
            "shape": [1, 8],
            "datatype": "FP32",
            "data": [48.4, 24.0, 1, 0, 0, 0, 0, 0],
        }
    ],
}
_ANSWERED: Final[Json] = {
    "model_name": "labeler",
    "model_version": VERSION,
    "id": "42",
    "outputs": [{"name": "labelcraft", "shape": [1], "datatype": "FP32", "data": [0.83]}],
}
_LENGTH: Final = parameter(
    "Inference-Header-Content-Length",
    {"type": "integer", "minimum": 0},
    "Bytes of the body that are JSON; behind them lie the tensors with a `binary_data_size`.",
    "header",
)
_OCTETS: Final[Json] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}


def _infer(*path: Json) -> Json:
    out = operation(
        ref(oip.InferReply),
        _ANSWERED,
        "400", "413", "415", *_ERRORS,
        body=json(ref(oip.InferRequest), one_row=_ASKED) | _OCTETS,
        query=[*path, _LENGTH],
    )  # fmt: skip
    out["responses"]["200"]["content"] |= _OCTETS
    out["responses"]["200"]["headers"] = {
        "Inference-Header-Content-Length": {
            "description": "Bytes of JSON, when tensors lie behind it.",
            "schema": {"type": "integer"},
        }
    }
    return out


INFER: Final = _infer(_MODEL)
INFER_VERSION: Final = _infer(_MODEL, _VERSION)
