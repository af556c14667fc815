"""Put a second version on a share of the users or requests."""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from service.http.auth import Keys
from service.http.openapi import operations as docs
from service.http.request import RequestReader, json_response
from service.inference import serving_set as serving
from service.inference.bundles import Bundles
from service.inference.rollout import Role
from service.pipeline.decoding import decode
from service.wire import OnTrial, Share, Traffic

_share: Final = msgspec.json.Decoder(Share)


def rollout_routes(
    bundles: Bundles, serving_set: serving.Serving, reader: RequestReader, keys: Keys
) -> APIRouter:
    """Return the routes of POST /v1/models/{version}:split and :shadow."""
    router = APIRouter()

    async def start(request: Request, role: Role) -> Response:
        share = decode(_share, await reader.json(request)).share
        await bundles.start_rollout(role, request.path_params["version"], share)
        now = serving_set.get()
        reply = Traffic(now.active.manifest.version, rollout_of(now.split), rollout_of(now.shadow))
        return json_response(reply)

    @router.post("/v1/models/{version}:split", tags=["models"], openapi_extra=docs.SPLIT)
    @keys.require("admin")
    async def post_split(request: Request) -> Response:
        """Let a version answer a share of the users instead of the current one; a share of 0 ends that.

        It is loaded, self-tested and warmed first; if any of that fails nothing changes. Which users is
        decided by a hash of their id and the version: one user has one version, and keeps it when the share
        grows. It stays so after a restart. The other workers follow within a second.
        """
        return await start(request, "split")

    @router.post("/v1/models/{version}:shadow", tags=["models"], openapi_extra=docs.SHADOW)
    @keys.require("admin")
    async def post_shadow(request: Request) -> Response:
        """Let a version score a share of the requests after they were answered; a share of 0 ends that.

        No answer changes or waits. How its answers would differ is in /metrics, `reelrank_shadow_*`.
        """
        return await start(request, "shadow")

    return router


def rollout_of(role: serving.LoadedRollout | None) -> OnTrial | None:
    """Return a rollout as it is answered."""
    return OnTrial(role.rollout.version, role.rollout.share) if role is not None else None
