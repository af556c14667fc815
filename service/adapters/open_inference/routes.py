"""Routes of the Open Inference Protocol: health, metadata and inference."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.errors import BadTensor, NotReady, UnknownModel, WrongContentType
from models.features import HISTORY_LENGTH
from models.manifest import TensorSpec
from service.adapters.open_inference import docs
from service.adapters.open_inference.inference import Model, infer
from service.adapters.open_inference.tensors import DATATYPES
from service.adapters.open_inference.wire import ModelMetadata, ModelReady, ServerMetadata, TensorMetadata
from service.http.openapi import operations
from service.http.request import JSON, json_response
from service.services import Services
from service.telemetry.trace import current_trace
from service.wire import Health

HEADER_LENGTH: Final = "inference-header-content-length"
"""How many bytes of a body are JSON; the others are tensors."""

OCTETS: Final = "application/octet-stream"

MIN_ROW_BYTES: Final = 32
"""Of either graph, roughly: so many rows are admitted before they are decoded."""

INLINE_BYTES: Final = 16 * 1024
"""Bodies up to this size, a slate of some 500, are computed on the event loop; larger ones in a thread."""

RIGHTS: Final = {"labeler": "label", "ranker": "rerank"}
"""What a key must allow for each graph: the same as for the endpoint that uses it."""

Handler = Callable[[Request], Awaitable[Response]]


def open_inference_routes(services: Services) -> APIRouter:
    """Return the routes of clients of KServe and Triton."""
    router = APIRouter(tags=["open inference protocol"])
    keys = services.keys

    def get(path: str, described: dict[str, Any]) -> Callable[[Handler], Handler]:
        return router.get(path, openapi_extra=described)

    @get("/v2", docs.SERVER)
    @keys.require("read")
    async def get_server(request: Request) -> Response:
        """Return name, version and extensions of the server."""
        return json_response(ServerMetadata("reelrank", request.app.version, ["binary_tensor_data"]))

    @get("/v2/health/live", operations.LIVE)
    async def get_live(request: Request) -> Response:
        """Return the liveness: the process answers."""
        return json_response(Health("live"))

    @get("/v2/health/ready", operations.READY)
    async def get_ready(request: Request) -> Response:
        """Return the readiness: a bundle is loaded and the service is not shutting down.

        The graphs need no store, so its state does not count.
        """
        _check_serving(services)
        return json_response(Health("ready", services.serving.active().manifest.version))

    @get("/v2/models/{model}", docs.MODEL)
    @get("/v2/models/{model}/versions/{version}", docs.MODEL)
    @keys.require("read")
    async def get_model(request: Request) -> Response:
        """Return the tensors of a graph. Its only version is the active bundle."""
        model = _model(request, services)
        inputs, outputs = map(_metadata, (model.graph.inputs, model.graph.outputs))
        return json_response(ModelMetadata(model.name, [model.version], "onnxruntime_onnx", inputs, outputs))

    @get("/v2/models/{model}/ready", docs.MODEL_READY)
    @get("/v2/models/{model}/versions/{version}/ready", docs.MODEL_READY)
    async def get_model_ready(request: Request) -> Response:
        """Return the readiness of a graph; both graphs are ready, or neither."""
        _check_serving(services)
        return json_response(ModelReady(_model(request, services).name))

    @router.post("/v2/models/{model}/infer", openapi_extra=docs.INFER)
    @router.post("/v2/models/{model}/versions/{version}/infer", openapi_extra=docs.INFER)
    async def post_infer(request: Request) -> Response:
        """Run a graph: `labeler` (right `label`) or `ranker` (right `rerank`).

        Tensors are JSON, or bytes after the JSON (binary tensor data extension). Inputs are what
        `models.features` makes: vocabulary indices, seconds, and flags as 0 and 1.
        """
        trace = current_trace()
        keys.check(request.headers.get("authorization"), RIGHTS.get(request.path_params["model"], "read"))
        model = _model(request, services)
        if request.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            raise WrongContentType("Compressed bodies are not read; send it without Content-Encoding.")
        body = await services.reader.body(request)
        length = _header_length(request, len(body))
        trace.mark("parse")
        admission = services.admission
        budget = admission.events if model.name == "labeler" else admission.candidates
        rows = min(len(body) // MIN_ROW_BYTES, budget.limit // 4)
        with budget.take(rows, caller=trace.caller):
            if len(body) <= INLINE_BYTES:
                reply, tensors = infer(model, body, length)
            else:
                reply, tensors = await anyio.to_thread.run_sync(infer, model, body, length)
        trace.mark("inference")
        if not tensors:
            return Response(reply, media_type=JSON)
        return Response(reply + tensors, media_type=OCTETS, headers={HEADER_LENGTH: str(len(reply))})

    return router


def _model(request: Request, services: Services) -> Model:
    """Return the graph that the path names.

    Only the active version is served: loading others on request would let callers fill the memory.

    Raises:
        UnknownModel: no such graph, or another version.
        NotReady: no bundle is loaded.
    """
    bundle, settings = services.serving.active(), services.settings
    name, manifest = request.path_params["model"], bundle.manifest
    version = request.path_params.get("version", manifest.version)
    if version != manifest.version:
        raise UnknownModel(
            f"Version {version[:64]!r} is not loaded, {manifest.version} is; "
            "POST /v1/models/{version}:activate makes another the active one."
        )
    if name == "labeler":
        limits = {"N": settings.max_events}
        return Model(name, version, manifest.labeler, bundle.run_labeler, limits)
    if name == "ranker":
        # As much as one slate may be: attention takes memory by candidates times steps.
        slate = settings.max_candidates
        limits = {"B": slate, "N": slate, "L": manifest.sequence_length, "H": HISTORY_LENGTH}
        return Model(name, version, manifest.ranker, bundle.run_ranker, limits)
    raise UnknownModel(f"There is no model {name[:64]!r}; the models are labeler and ranker.")


def _check_serving(services: Services) -> None:
    if services.draining:
        raise NotReady("The service is shutting down.")


def _metadata(specs: Sequence[TensorSpec]) -> list[TensorMetadata]:
    """Describe tensors; a free axis is -1."""
    return [
        TensorMetadata(
            spec.name, DATATYPES[spec.dtype], [-1 if isinstance(dim, str) else dim for dim in spec.shape]
        )
        for spec in specs
    ]


def _header_length(request: Request, size: int) -> int | None:
    text = request.headers.get(HEADER_LENGTH)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= size):
        raise BadTensor(f"Inference-Header-Content-Length must be 0 to {size}, found {text[:32]!r}.")
    return int(text)
