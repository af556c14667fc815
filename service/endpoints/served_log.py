"""The newest slates and events of the served log, and the reports on experiments beside it."""

from __future__ import annotations

from typing import Final

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.errors import Invalid
from models.schema import checked_id
from service.http.openapi import operations as docs
from service.http.request import json_response
from service.served_log.recent import recent_events, recent_slates
from service.served_log.reports import newest_reports
from service.services import Services

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 100
MAX_EVENTS: Final = 1000


def served_log_routes(services: Services) -> APIRouter:
    """Return the routes of GET /v1/slates, /v1/events and /v1/reports. Without REELRANK_LOG_DIR each answers
    with an empty list."""
    router = APIRouter()
    folder = services.settings.log_dir

    @router.get("/v1/slates", tags=["ranking"], openapi_extra=docs.SLATES)
    @services.keys.require("read")
    async def get_slates(request: Request) -> Response:
        """The newest slates of the served log, newest first; none without REELRANK_LOG_DIR.

        They are of all workers on this machine, from files that have not been compressed yet.
        """
        limit = _limit(request, MAX_LIMIT)
        if folder is None:
            return json_response([])
        return json_response(await anyio.to_thread.run_sync(recent_slates, folder, limit))

    @router.get("/v1/events", tags=["users"], openapi_extra=docs.LOGGED_EVENTS)
    @services.keys.require("read")
    async def get_events(request: Request) -> Response:
        """What the served log has of a user's events, newest first: repetitions and later versions, too, each
        with its outcome and when it came; none without REELRANK_LOG_DIR.

        It is of all workers on this machine, from files that have not been compressed yet. Like a preview it
        is refused (429) while requests use more than a quarter of their budget.
        """
        try:
            user_id = checked_id(request.query_params.get("user_id", ""), "user_id")
        except ValueError as e:
            raise Invalid(f"{e}.", loc="user_id") from None
        limit = _limit(request, MAX_EVENTS)
        if folder is None:
            return json_response([])
        with services.spare.take(limit):
            return json_response(await anyio.to_thread.run_sync(recent_events, folder, user_id, limit))

    @router.get("/v1/reports", tags=["experiments"], openapi_extra=docs.REPORTS)
    @services.keys.require("read")
    async def get_reports(request: Request) -> Response:
        """The newest report of each experiment, as `python -m training experiment NAME --log DIR --out
        DIR/experiments/NAME/DATE` has written it beside the served log; none without REELRANK_LOG_DIR."""
        if folder is None:
            return json_response([])
        return json_response(await anyio.to_thread.run_sync(newest_reports, folder))

    return router


def _limit(request: Request, most: int) -> int:
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= most):
        raise Invalid(f"`limit` must be 1 to {most}, found {text[:32]!r}.", loc="limit")
    return int(text)
