"""Liveness, readiness, metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from models.errors import NotReady
from service.http.openapi import operations as docs
from service.http.request import json_response
from service.services import Services
from service.wire import Health


def health_routes(services: Services) -> APIRouter:
    """Return the routes of /health and /metrics."""
    router = APIRouter()

    @router.get("/health/live", tags=["health"], openapi_extra=docs.LIVE)
    async def get_live(request: Request) -> Response:
        """The process answers. Never touches the store: a restart would not bring that back."""
        return json_response(Health("live"))

    @router.get("/health", tags=["metarank"], openapi_extra=docs.READY)
    @router.get("/health/ready", tags=["health"], openapi_extra=docs.READY)
    async def get_ready(request: Request) -> Response:
        """A bundle is loaded, self-tested and warmed, and the service is not shutting down.

        With the store away it is ready with `degraded`: slates go on, from empty histories. `store_writes`
        means that the last write failed, `store_policy` that the store's configuration may lose events.
        """
        if services.draining:
            raise NotReady("The service is shutting down.")
        version = services.serving.active().manifest.version
        return json_response(Health("ready", version, await services.store_health.degraded()))

    @router.get("/metrics", tags=["health"], openapi_extra=docs.METRICS)
    @services.keys.require("read")
    async def get_metrics(request: Request) -> Response:
        """Prometheus text, of all workers together."""
        return Response(services.metrics.render(), media_type=CONTENT_TYPE_LATEST)

    return router
