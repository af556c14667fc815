"""The outermost layer: what every request gets and every response carries. Plain ASGI, because it is hot."""

from __future__ import annotations

import asyncio
import os
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import NotReady
from service.api.errors import response_of
from service.api.services import Services
from service.telemetry.trace import Trace

MAX_REQUEST_ID: Final = 128
UNMATCHED: Final = "unmatched"


class Edge:
    """Gives a request its id and its trace; adds `X-Request-Id` and `Server-Timing`; counts and times.

    Args:
        app: everything else.
        services: for the metrics.
    """

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._metrics = services.metrics
        self._budgets = {"/rerank": services.admission.candidates, "/label": services.admission.events}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = Trace(_request_id(scope))
        trace.started = scope.get("reelrank.arrived", trace.started)
        scope["reelrank.trace"] = trace

        started = False

        async def timed_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", trace.request_id.encode()),
                    (b"server-timing", trace.server_timing()),
                ]
                self._observe(scope, message["status"], trace)
            await send(message)

        budget = self._budgets.get(scope["path"])
        if budget is not None and budget.full and not _streams(scope):
            # There is no room for the smallest: said before it costs anything, so that others get that time.
            scope["reelrank.route"] = scope["path"]
            self._metrics.faults.refused.labels(scope["path"], budget.name).inc()
            await response_of(budget.overloaded())(scope, receive, timed_send)
            return
        try:
            await self._app(scope, receive, timed_send)
        except asyncio.CancelledError:
            # Only the end of `grace_s` cancels requests: of clients that do not send, or do not read.
            if not started:
                await response_of(NotReady("The service is shutting down."))(scope, receive, timed_send)

    def _observe(self, scope: Scope, status: int, trace: Trace) -> None:
        unmatched: str = scope.get("reelrank.route", UNMATCHED)
        route = getattr(scope.get("route"), "path", unmatched).replace(":path}", "}")
        # An unknown method is a caller's text, and must not become a label of its own.
        method = scope["method"] if route != UNMATCHED else "any"
        self._metrics.requests.labels(route, method, status).inc()
        seconds = self._metrics.seconds
        for stage, took in trace.stages.items():
            seconds.labels(route, stage).observe(took)
        seconds.labels(route, "total").observe(trace.elapsed_s())


def _streams(scope: Scope) -> bool:
    """Whether the body is a stream, which waits for room."""
    return any(
        name == b"content-type" and value.startswith(b"application/x-nd") for name, value in scope["headers"]
    )


def _request_id(scope: Scope) -> str:
    """The caller's, if it is short and printable: it comes back in a header and goes to logs."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            if 0 < len(text) <= MAX_REQUEST_ID and text.isascii() and text.isprintable():
                return text
            break
    return new_request_id()


def new_request_id() -> str:
    """For a request that brought none."""
    return os.urandom(8).hex()
