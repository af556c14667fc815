"""What there is and whether it answers: the protocol's health and metadata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.errors import NotReady
from models.manifest import TensorSpec
from service.adapters.open_inference import docs
from service.adapters.open_inference.graphs import model_of
from service.adapters.open_inference.tensors import DATATYPES, shape
from service.adapters.open_inference.wire import ModelMetadata, ModelReady, ServerMetadata, TensorMetadata
from service.http.openapi import operations
from service.http.request import JSON
from service.services import Services, services_of
from service.wire import Health

router = APIRouter(tags=["open inference protocol"])

PLATFORM: Final = "onnxruntime_onnx"
EXTENSIONS: Final = ["binary_tensor_data"]


@router.get("/v2", openapi_extra=docs.SERVER)
async def get_server(request: Request) -> Response:
    """Name, version and extensions of the server."""
    services_of(request).keys.check(request.headers.get("authorization"), "read")
    return _json(ServerMetadata("reelrank", request.app.version, EXTENSIONS))


@router.get("/v2/health/live", openapi_extra=operations.LIVE)
async def get_live(request: Request) -> Response:
    """The process answers."""
    return _json(Health("live"))


@router.get("/v2/health/ready", openapi_extra=operations.READY)
async def get_ready(request: Request) -> Response:
    """A bundle is loaded and the service is not shutting down. The graphs need no store, so none is asked."""
    services = services_of(request)
    _serving(services)
    return _json(Health("ready", services.serving.active().manifest.version))


@router.get("/v2/models/{model}", openapi_extra=docs.MODEL)
@router.get("/v2/models/{model}/versions/{version}", openapi_extra=docs.MODEL)
async def get_model(request: Request) -> Response:
    """A graph's tensors. Its only version is the bundle that answers."""
    services = services_of(request)
    services.keys.check(request.headers.get("authorization"), "read")
    model = model_of(request, services)
    inputs, outputs = _described(model.graph.inputs), _described(model.graph.outputs)
    return _json(ModelMetadata(model.name, [model.version], PLATFORM, inputs, outputs))


@router.get("/v2/models/{model}/ready", openapi_extra=docs.MODEL_READY)
@router.get("/v2/models/{model}/versions/{version}/ready", openapi_extra=docs.MODEL_READY)
async def get_model_ready(request: Request) -> Response:
    """The graph answers: both do, or neither."""
    services = services_of(request)
    _serving(services)
    return _json(ModelReady(model_of(request, services).name))


def _serving(services: Services) -> None:
    if services.draining:
        raise NotReady("The service is shutting down.")


def _described(specs: Sequence[TensorSpec]) -> list[TensorMetadata]:
    return [TensorMetadata(spec.name, DATATYPES[spec.dtype], shape(spec.shape)) for spec in specs]


def _json(reply: Any) -> Response:
    return Response(msgspec.json.encode(reply), media_type=JSON)
