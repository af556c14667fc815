"""GET /console: the page on labels, scores and versions. Its data are those of documented endpoints."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles

POLICY: Final = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing but files and endpoints of this service; no script or style within a document."""


def console_routes() -> APIRouter:
    """Return the routes of the page and its files. Links are relative, so that it works behind a prefix."""
    router = APIRouter(include_in_schema=False)
    files = StaticFiles(packages=[("service", "console")])

    async def file(name: str, request: Request) -> Response:
        response = await files.get_response(name, request.scope)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    @router.get("/console")
    async def get_page(request: Request) -> Response:
        """The page."""
        return await file("index.html", request)

    @router.get("/console/")
    async def get_page_with_slash(request: Request) -> Response:
        """To the page: its links start beside it."""
        return RedirectResponse("../console")

    @router.get("/console/{path:path}")
    async def get_file(request: Request) -> Response:
        """A script, a style sheet, an icon."""
        return await file(request.path_params["path"], request)

    return router
