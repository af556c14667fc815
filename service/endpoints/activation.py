"""Change the version that answers."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.http.auth import Keys
from service.http.openapi import operations as docs
from service.http.request import json_response
from service.inference.bundles import Bundles
from service.inference.serving_set import Serving
from service.wire import Active


def activation_routes(bundles: Bundles, serving_set: Serving, keys: Keys) -> APIRouter:
    """Return the routes of POST /v1/models/{version}:activate and /v1/models:rollback."""
    router = APIRouter()

    def active() -> Response:
        bundle = serving_set.active()
        reply = Active(bundle.manifest.version, bundle.provider)
        return json_response(reply)

    @router.post("/v1/models/{version}:activate", tags=["models"], openapi_extra=docs.ACTIVATE)
    @keys.require("admin")
    async def post_activate(request: Request) -> Response:
        """Load, self-test and warm a version, make it the current one and answer from it.

        If any of that fails the version of before goes on. This worker changes before the reply, the others
        within a second. Of the current version, nothing happens.
        """
        await bundles.activate(request.path_params["version"])
        return active()

    @router.post("/v1/models:rollback", tags=["models"], openapi_extra=docs.ROLLBACK)
    @keys.require("admin")
    async def post_rollback(request: Request) -> Response:
        """Go back to the version that was current before, with the same care. It stays so after a restart.

        The version that was replaced last is still in memory, so that going back to it is a matter of
        milliseconds."""
        await bundles.rollback()
        return active()

    return router
