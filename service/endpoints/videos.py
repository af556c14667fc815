"""The catalogue."""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.schema import Video
from service.catalogue.catalogue import Catalogue
from service.http.auth import Keys
from service.http.openapi import operations as docs
from service.http.request import RequestReader, json_response
from service.pipeline.decoding import check_count, decode
from service.settings import Settings
from service.state.protocol import Store
from service.telemetry.metrics import Metrics
from service.telemetry.trace import current_trace
from service.wire import Stored

_videos: Final = msgspec.json.Decoder(list[Video])


def video_routes(
    store: Store,
    catalogue: Catalogue,
    metrics: Metrics,
    reader: RequestReader,
    keys: Keys,
    settings: Settings,
) -> APIRouter:
    """Return the route of PUT /videos."""
    router = APIRouter()

    @router.put("/videos", tags=["catalogue"], openapi_extra=docs.VIDEOS)
    @keys.require("label")
    async def put_videos(request: Request) -> Response:
        """Upsert catalogue entries, all or nothing.

        When this has answered, this process knows them; the other workers do within a second.
        """
        trace = current_trace()
        videos = decode(_videos, await reader.json(request), root="videos")
        check_count(videos, settings.max_events, "videos", "REELRANK_MAX_EVENTS")
        trace.mark("parse")
        async with reader.time_limit(request):
            await store.put_videos(videos)
            await catalogue.follow(store)
        metrics.videos.set(len(catalogue))
        trace.mark("state")
        return json_response(Stored(accepted=len(videos)))

    return router
