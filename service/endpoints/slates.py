"""GET /v1/slates."""

from __future__ import annotations

from typing import Final

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.errors import Invalid
from service.http.openapi import operations as docs
from service.http.request import json_response
from service.served_log.recent import recent_slates
from service.services import Services

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100


def slate_routes(services: Services) -> APIRouter:
    """Return the route of GET /v1/slates."""
    router = APIRouter()
    folder = services.settings.log_dir

    @router.get("/v1/slates", tags=["ranking"], openapi_extra=docs.SLATES)
    @services.keys.require("read")
    async def get_slates(request: Request) -> Response:
        """The newest slates of the served log, newest first; none without REELRANK_LOG_DIR.

        They are of all workers on this machine, from files that have not been compressed yet.
        """
        text = request.query_params.get("limit", str(DEFAULT_LIMIT))
        if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MAX_LIMIT):
            raise Invalid(f"`limit` must be 1 to {MAX_LIMIT}, found {text[:32]!r}.", loc="limit")
        if folder is None:
            return json_response([])
        return json_response(await anyio.to_thread.run_sync(recent_slates, folder, int(text)))

    return router
