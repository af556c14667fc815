"""The catalogue."""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.schema import Video
from service.http.openapi import operations as docs
from service.http.request import json_response
from service.pipeline.decoding import check_count, decode
from service.services import Services
from service.telemetry.trace import current_trace
from service.wire import Stored

_videos: Final = msgspec.json.Decoder(list[Video])


def video_routes(services: Services) -> APIRouter:
    """Return the route of PUT /videos."""
    router = APIRouter()
    reader, catalogue = services.reader, services.catalogue

    @router.put("/videos", tags=["catalogue"], openapi_extra=docs.VIDEOS)
    @services.keys.require("label")
    async def put_videos(request: Request) -> Response:
        """Upsert catalogue entries, all or nothing.

        When this has answered, this process knows them; the other workers do within a second.
        """
        trace = current_trace()
        videos = decode(_videos, await reader.json(request), root="videos")
        check_count(videos, services.settings.max_events, "videos", "REELRANK_MAX_EVENTS")
        trace.mark("parse")
        async with reader.time_limit(request):
            await services.store.put_videos(videos)
            await catalogue.follow(services.store)
        services.metrics.videos.set(len(catalogue))
        trace.mark("state")
        return json_response(Stored(accepted=len(videos)))

    return router
