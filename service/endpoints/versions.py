"""Versions: which there are, which answers, and changing that."""

from __future__ import annotations

from typing import Any, Final

import anyio.to_thread
import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.manifest import Manifest
from service.http import body as bodies
from service.http.auth import allow
from service.http.openapi import operations as docs
from service.inference import serving_set as slot
from service.inference.rollout import Role
from service.services import Services, services_of
from service.wire import Active, OnTrial, Share, Traffic

router = APIRouter()

_share: Final = msgspec.json.Decoder(Share)


@router.get("/v1/models", tags=["models"], openapi_extra=docs.MODELS)
async def get_models(request: Request) -> Response:
    """Every version with its checksums and metrics; which one answers, on what hardware; which are on trial
    beside it, and which should have a part and cannot be used."""
    services = services_of(request)
    allow(request, services.keys, "read")
    manifests = await anyio.to_thread.run_sync(services.bundles.manifests)
    active = services.slot.version
    serving = services.slot.serving() if active is not None else None
    reply = {
        "active": active,
        "provider": serving.current.provider if serving else None,
        "split": _on_trial(serving.split) if serving else None,
        "shadow": _on_trial(serving.shadow) if serving else None,
        "refused": [
            {"role": role, "version": refusal.version, "detail": refusal.detail}
            for role, refusal in services.bundles.refused.items()
        ],
        "models": [_described(version, found, active) for version, found in manifests.items()],
    }
    return Response(msgspec.json.encode(reply), media_type=bodies.JSON)


@router.post("/v1/models/{version}:activate", tags=["models"], openapi_extra=docs.ACTIVATE)
async def post_activate(request: Request) -> Response:
    """Load, self-test and warm a version, make it the current one and answer from it.

    If any of that fails the version of before goes on. This worker changes before the reply, the others
    within a second. Of the current version, nothing happens.
    """
    services = services_of(request)
    allow(request, services.keys, "admin")
    await services.bundles.activate(request.path_params["version"])
    return _active(services)


@router.post("/v1/models:rollback", tags=["models"], openapi_extra=docs.ROLLBACK)
async def post_rollback(request: Request) -> Response:
    """Go back to the version that was current before, with the same care. It stays so after a restart.

    The version that was replaced last is still in memory, so that going back to it is a matter of
    milliseconds."""
    services = services_of(request)
    allow(request, services.keys, "admin")
    await services.bundles.rollback()
    return _active(services)


@router.post("/v1/models/{version}:split", tags=["models"], openapi_extra=docs.SPLIT)
async def post_split(request: Request) -> Response:
    """Let a version answer a share of the users instead of the current one; a share of 0 ends that.

    It is loaded, self-tested and warmed first; if any of that fails nothing changes. Which users is decided
    by a hash of their id and the version: one user has one version, and keeps it when the share grows. It
    stays so after a restart. The other workers follow within a second.
    """
    return await _trial(request, "split")


@router.post("/v1/models/{version}:shadow", tags=["models"], openapi_extra=docs.SHADOW)
async def post_shadow(request: Request) -> Response:
    """Let a version score a share of the requests after they were answered; a share of 0 ends that.

    No answer changes or waits. How its answers would differ is in /metrics, `reelrank_shadow_*`.
    """
    return await _trial(request, "shadow")


async def _trial(request: Request, role: Role) -> Response:
    services = services_of(request)
    allow(request, services.keys, "admin")
    bodies.content_type(request, bodies.JSON)
    asked = bodies.decode(_share, await bodies.read(request, services.settings.max_body_bytes))
    await services.bundles.put_on_trial(role, request.path_params["version"], asked.share)
    serving = services.slot.serving()
    reply = Traffic(serving.current.manifest.version, _on_trial(serving.split), _on_trial(serving.shadow))
    return Response(msgspec.json.encode(reply), media_type=bodies.JSON)


def _on_trial(held: slot.OnTrial | None) -> OnTrial | None:
    return OnTrial(held.trial.version, held.trial.share) if held is not None else None


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
