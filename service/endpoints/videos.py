"""The catalogue."""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.schema import Video
from service.http import body as bodies
from service.http.auth import allow
from service.http.deadline import in_time
from service.http.openapi import operations as docs
from service.services import services_of, trace_of
from service.wire import Stored

router = APIRouter()

_videos: Final = msgspec.json.Decoder(list[Video])
_encode: Final = msgspec.json.Encoder().encode


@router.put("/videos", tags=["catalogue"], openapi_extra=docs.VIDEOS)
async def put_videos(request: Request) -> Response:
    """Upsert catalogue entries, all or nothing.

    When this has answered, this process knows them; the other workers do within a second.
    """
    services, trace = services_of(request), trace_of(request)
    allow(request, services.keys, "label")
    bodies.content_type(request, bodies.JSON)
    body = await bodies.read(request, services.settings.max_body_bytes)
    videos = bodies.decode(_videos, body, root="videos")
    bodies.limited(videos, services.settings.max_events, "videos", "REELRANK_MAX_EVENTS")
    trace.mark("parse")
    async with in_time(request):
        await services.store.put_videos(videos)
        await services.catalogue.follow(services.store)
    services.metrics.videos.set(len(services.catalogue))
    trace.mark("state")
    return Response(_encode(Stored(accepted=len(videos))), media_type=bodies.JSON)
