"""Is it alive, is it ready, how is it doing."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from models.errors import NotReady, StoreUnavailable
from service.http import body as bodies
from service.http.auth import allow
from service.http.openapi import operations as docs
from service.services import services_of
from service.wire import Health

router = APIRouter()

PING_S: Final = 0.25
"""How long readiness waits for the store before it calls it away."""


@router.get("/health/live", tags=["health"], openapi_extra=docs.LIVE)
async def get_live(request: Request) -> Response:
    """The process answers. Never touches the store: a restart would not bring that back."""
    return Response(msgspec.json.encode(Health("live")), media_type=bodies.JSON)


@router.get("/health", tags=["metarank"], openapi_extra=docs.READY)
@router.get("/health/ready", tags=["health"], openapi_extra=docs.READY)
async def get_ready(request: Request) -> Response:
    """A bundle is loaded, self-tested and warmed, and the service is not shutting down.

    With the store away it is ready with `degraded`: slates go on, from empty histories.
    """
    services = services_of(request)
    if services.draining:
        raise NotReady("The service is shutting down.")
    version = services.slot.take().manifest.version
    degraded: list[str] = []
    try:
        async with asyncio.timeout(PING_S):
            await services.store.ping()
    except (StoreUnavailable, TimeoutError):
        degraded.append("store")
    return Response(msgspec.json.encode(Health("ready", version, degraded)), media_type=bodies.JSON)


@router.get("/metrics", tags=["health"], openapi_extra=docs.METRICS)
async def get_metrics(request: Request) -> Response:
    """Prometheus text, of all workers together."""
    services = services_of(request)
    allow(request, services.keys, "read")
    return Response(services.metrics.render(), media_type=CONTENT_TYPE_LATEST)
