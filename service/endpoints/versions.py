"""GET /v1/models: the versions of the bundle."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.manifest import Manifest
from service.endpoints.rollouts import rollout_of
from service.http.auth import Keys
from service.http.openapi import operations as docs
from service.http.request import json_response
from service.inference.bundles import Bundles
from service.inference.serving_set import Serving


def version_routes(bundles: Bundles, serving_set: Serving, keys: Keys) -> APIRouter:
    """Return the route of GET /v1/models."""
    router = APIRouter()

    @router.get("/v1/models", tags=["models"], openapi_extra=docs.MODELS)
    @keys.require("read")
    async def get_models(request: Request) -> Response:
        """Every version with its checksums and metrics; which one answers, on what hardware; which are on
        trial beside it, and which should have a part and cannot be used."""
        manifests = await anyio.to_thread.run_sync(bundles.manifests)
        active = serving_set.version
        serving = serving_set.get() if active is not None else None
        reply = {
            "active": active,
            "provider": serving.active.provider if serving else None,
            "split": rollout_of(serving.split) if serving else None,
            "shadow": rollout_of(serving.shadow) if serving else None,
            "refused": [
                {"role": role, "version": refusal.version, "detail": refusal.detail}
                for role, refusal in bundles.refused.items()
            ],
            "models": [_model(version, manifest, active) for version, manifest in manifests.items()],
        }
        return json_response(reply)

    return router


def _model(version: str, manifest: Manifest | str, active: str | None) -> dict[str, Any]:
    if isinstance(manifest, str):  # why there is none
        return {"version": version, "active": version == active, "error": manifest}
    m = manifest
    return {
        "version": m.version,
        "active": m.version == active,
        "files": m.files,
        "labels": m.labels,
        "labels_by_user": m.labels_by_user,
        "objectives": m.objectives,
        "weights": m.weights,
        "sequence_length": m.sequence_length,
        "default_tab": m.default_tab,
        "profile_numbers": m.profile_numbers,
        "profile_categories": m.profile_categories,
        "created_at": m.created_at.isoformat(),
        "watermark_ms": m.training.watermark_ms,
        "training": m.training.model_dump(mode="json"),
        "metrics": m.evaluation.metrics if m.evaluation else {},
    }
