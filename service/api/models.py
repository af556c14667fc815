"""Versions: which there are, which answers, and changing that."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.manifest import Manifest
from service.api import body as bodies
from service.api.auth import allow
from service.api.docs import operations as docs
from service.api.services import Services, services_of
from service.api.wire import Active

router = APIRouter()


@router.get("/v1/models", tags=["models"], openapi_extra=docs.MODELS)
async def get_models(request: Request) -> Response:
    """Every version with its checksums and metrics, and which one answers, on what hardware."""
    services = services_of(request)
    allow(request, services.keys, "read")
    manifests = await anyio.to_thread.run_sync(services.bundles.manifests)
    active = services.slot.version
    provider = services.slot.take().provider if active is not None else None
    reply = {
        "active": active,
        "provider": provider,
        "models": [_described(version, found, active) for version, found in manifests.items()],
    }
    return Response(msgspec.json.encode(reply), media_type=bodies.JSON)


@router.post("/v1/models/{version}:activate", tags=["models"], openapi_extra=docs.ACTIVATE)
async def post_activate(request: Request) -> Response:
    """Load, self-test and warm a version, make it the current one and answer from it.

    If any of that fails the version of before goes on. This worker changes before the reply, the others
    within a second.
    """
    services = services_of(request)
    allow(request, services.keys, "admin")
    await services.bundles.activate(request.path_params["version"])
    return _active(services)


@router.post("/v1/models:rollback", tags=["models"], openapi_extra=docs.ROLLBACK)
async def post_rollback(request: Request) -> Response:
    """Go back to the version that was current before, with the same care. It stays so after a restart."""
    services = services_of(request)
    allow(request, services.keys, "admin")
    await services.bundles.rollback()
    return _active(services)


def _active(services: Services) -> Response:
    bundle = services.slot.take()
    return Response(
        msgspec.json.encode(Active(bundle.manifest.version, bundle.provider)), media_type=bodies.JSON
    )


def _described(version: str, found: Manifest | str, active: str | None) -> dict[str, Any]:
    if isinstance(found, str):
        return {"version": version, "active": version == active, "error": found}
    return {
        "version": found.version,
        "active": found.version == active,
        "created_at": found.created_at.isoformat(),
        "files": found.files,
        "labels": found.labels,
        "labels_by_user": found.labels_by_user,
        "objectives": found.objectives,
        "weights": found.weights,
        "sequence_length": found.sequence_length,
        "default_tab": found.default_tab,
        "profile_numbers": found.profile_numbers,
        "profile_categories": found.profile_categories,
        "watermark_ms": found.training.watermark_ms,
        "training": found.training.model_dump(mode="json"),
        "metrics": found.evaluation.metrics if found.evaluation else {},
    }
