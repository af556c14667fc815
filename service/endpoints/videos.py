"""The catalogue."""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.errors import Invalid
from models.schema import Video
from models.video_features import VideoFeatures
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
        """Upsert catalogue entries, all or nothing; own features by the names that the bundle declares.

        When this has answered, this process knows them; the other workers do within a second.
        """
        trace = current_trace()
        videos = decode(_videos, await reader.json(request), root="videos")
        check_count(videos, services.settings.max_events, "videos", "REELRANK_MAX_EVENTS")
        if any(video.features for video in videos):
            _check_features(videos, services.serving.active().manifest.video_features)
        trace.mark("parse")
        async with reader.time_limit(request):
            await services.store.put_videos(videos)
            await catalogue.follow(services.store)
        services.metrics.videos.set(len(catalogue))
        trace.mark("state")
        return json_response(Stored(accepted=len(videos)))

    return router


def _check_features(videos: list[Video], declared: VideoFeatures) -> None:
    for index, video in enumerate(videos):
        if video.features and (fault := declared.fault(video.features)) is not None:
            raise Invalid(fault.detail, loc=f"videos[{index}].features.{fault.name}")
