"""GET /v1/key."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.http.openapi import operations as docs
from service.http.request import json_response
from service.services import Services
from service.wire import KeyRights


def key_routes(services: Services) -> APIRouter:
    """Return the route of GET /v1/key."""
    router = APIRouter()

    @router.get("/v1/key", tags=["keys"], openapi_extra=docs.KEY)
    async def get_key(request: Request) -> Response:
        """The rights of the caller's key; all of them where no keys are configured."""
        rights = services.keys.rights(request.headers.get("authorization"))
        return json_response(KeyRights(sorted(rights)))

    return router
