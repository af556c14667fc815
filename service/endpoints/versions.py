"""The versions of the bundle: which there are, which one answers, and which are on trial beside it."""

from __future__ import annotations

from typing import Any, Final

import anyio.to_thread
import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.manifest import Manifest
from service.http.errors import without_folders
from service.http.openapi import operations as docs
from service.http.request import json_response
from service.inference.rollout import Role
from service.inference.serving_set import LoadedRollout
from service.pipeline.decoding import decode
from service.services import Services
from service.wire import Active, OnTrial, Share, Traffic

DETAILS: Final = {"learned_labels", "evaluation", "reference"}
"""Members of a manifest that only the reply on one version has."""

_share: Final = msgspec.json.Decoder(Share)


def version_routes(services: Services) -> APIRouter:
    """Return the routes of GET /v1/models and of the operations on a version."""
    router = APIRouter(tags=["models"])
    bundles, serving_set, keys = services.bundles, services.serving, services.keys

    @router.get("/v1/models", openapi_extra=docs.MODELS)
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
            "split": _on_trial(serving.split) if serving else None,
            "shadow": _on_trial(serving.shadow) if serving else None,
            "refused": [
                {"role": role, "version": refusal.version, "detail": without_folders(refusal.detail)}
                for role, refusal in bundles.refused.items()
            ],
            "models": [_model(version, manifest, active) for version, manifest in manifests.items()],
        }
        return json_response(reply)

    def active() -> Response:
        bundle = serving_set.active()
        reply = Active(bundle.manifest.version, bundle.provider)
        return json_response(reply)

    @router.post("/v1/models/{version}:activate", openapi_extra=docs.ACTIVATE)
    @keys.require("admin")
    async def post_activate(request: Request) -> Response:
        """Load, self-test and warm a version, make it the current one and answer from it.

        If any of that fails the version of before goes on. This worker changes before the reply, the others
        within a second. Of the current version, nothing happens.
        """
        await bundles.activate(request.path_params["version"])
        return active()

    @router.post("/v1/models:rollback", openapi_extra=docs.ROLLBACK)
    @keys.require("admin")
    async def post_rollback(request: Request) -> Response:
        """Go back to the version that was current before, with the same care. It stays so after a restart.

        The version that was replaced last is still in memory, so that going back to it is a matter of
        milliseconds."""
        await bundles.rollback()
        return active()

    async def start(request: Request, role: Role) -> Response:
        share = decode(_share, await services.reader.json(request)).share
        await bundles.start_rollout(role, request.path_params["version"], share)
        now = serving_set.get()
        reply = Traffic(now.active.manifest.version, _on_trial(now.split), _on_trial(now.shadow))
        return json_response(reply)

    @router.post("/v1/models/{version}:split", openapi_extra=docs.SPLIT)
    @keys.require("admin")
    async def post_split(request: Request) -> Response:
        """Let a version answer a share of the users instead of the current one; a share of 0 ends that.

        It is loaded, self-tested and warmed first; if any of that fails nothing changes. Which users is
        decided by a hash of their id and the version: one user has one version, and keeps it when the share
        grows. It stays so after a restart. The other workers follow within a second.
        """
        return await start(request, "split")

    @router.post("/v1/models/{version}:shadow", openapi_extra=docs.SHADOW)
    @keys.require("admin")
    async def post_shadow(request: Request) -> Response:
        """Let a version score a share of the requests after they were answered; a share of 0 ends that.

        No answer changes or waits. How its answers would differ is in /metrics, `reelrank_shadow_*`.
        """
        return await start(request, "shadow")

    # Last, so that paths of operations match their own routes first.
    @router.get("/v1/models/{version}", openapi_extra=docs.MODEL)
    @keys.require("read")
    async def get_model(request: Request) -> Response:
        """One version as GET /v1/models lists it, with all figures of its evaluation and of its learned
        labels, and the distributions of its training rows (`reference`)."""
        version = request.path_params["version"]
        manifest = await anyio.to_thread.run_sync(bundles.manifest, version)
        details = {} if isinstance(manifest, str) else manifest.model_dump(mode="json", include=DETAILS)
        return json_response(_model(version, manifest, serving_set.version) | details)

    return router


def _on_trial(role: LoadedRollout | None) -> OnTrial | None:
    """Return a rollout as it is answered."""
    return OnTrial(role.rollout.version, role.rollout.share) if role is not None else None


def _model(version: str, manifest: Manifest | str, active: str | None) -> dict[str, Any]:
    if isinstance(manifest, str):  # why there is none
        return {"version": version, "active": version == active, "error": without_folders(manifest)}
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
        "signals": m.signals.model_dump(),
        "video_features": m.video_features.model_dump(),
        "created_at": m.created_at.isoformat(),
        "watermark_ms": m.training.watermark_ms,
        "training": m.training.model_dump(mode="json"),
        "metrics": m.evaluation.metrics if m.evaluation else {},
    }
