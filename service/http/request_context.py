"""The outermost layer: what every request gets and every response carries. Plain ASGI, because it is hot."""

from __future__ import annotations

import asyncio
import logging
import os
from functools import cache
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import NotReady
from service.http.errors import response_of
from service.services import Services
from service.telemetry.trace import Trace

log = logging.getLogger("reelrank.api")

MAX_REQUEST_ID: Final = 128
UNMATCHED: Final = "unmatched"

FIXED: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""Of every answer: it is what it says it is, and no proxy or browser keeps what is known of a user."""


class Edge:
    """Gives a request its id and its trace; adds `X-Request-Id` and `Server-Timing`; counts, times, logs.

    Args:
        app: everything else.
        services: for the metrics, the log of requests and the tracing.
    """

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app = app
        self._requests = services.requests
        self._tracing = services.tracing
        self._in_flight = services.metrics.in_flight
        self._budgets = {"/rerank": services.admission.candidates, "/label": services.admission.events}
        # The children of a metric, without prometheus_client's look-up at each request. Routes are few.
        self._counted = cache(services.metrics.requests.labels)
        self._timed = cache(services.metrics.seconds.labels)
        self._refused = cache(services.metrics.refusals.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = Trace(_request_id(scope))
        trace.started = scope.get("reelrank.arrived", trace.started)
        scope["reelrank.trace"] = trace
        status = 0
        whole = False

        async def timed_send(message: Message) -> None:
            nonlocal status, whole
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", trace.request_id.encode()),
                    (b"server-timing", trace.server_timing()),
                    *FIXED,
                ]
                self._observe(scope, status, trace)
            else:
                whole = not message.get("more_body", False)
            await send(message)

        self._in_flight.inc()
        try:
            budget = self._budgets.get(scope["path"])
            if budget is not None and budget.full and not _streams(scope):
                # There is no room for the smallest: said before it costs anything, for the others' sake.
                scope["reelrank.route"] = scope["path"]
                trace.reason = budget.name
                await response_of(budget.overloaded())(scope, receive, timed_send)
                return
            await self._app(scope, receive, timed_send)
        except asyncio.CancelledError:
            # Only the end of `grace_s` cancels requests: of clients that do not send, or do not read.
            if not status:
                await response_of(NotReady("The service is shutting down."))(scope, receive, timed_send)
        except Exception:
            named = {"request_id": trace.request_id, "method": scope["method"], "route": _route(scope)}
            log.exception("a fault in the service", extra=named)
            if not whole:  # the server must hang up
                raise
        finally:
            self._in_flight.dec()
            if status:
                self._ended(scope, status, trace)

    def _observe(self, scope: Scope, status: int, trace: Trace) -> None:
        route = _route(scope)
        # An unknown method is a caller's text, and must not become a label of its own.
        self._counted(route, scope["method"] if route != UNMATCHED else "any", status).inc()
        for stage, took in trace.stages.items():
            self._timed(route, stage).observe(took)
        self._timed(route, "total").observe(trace.elapsed_s())

    def _ended(self, scope: Scope, status: int, trace: Trace) -> None:
        """What is done when the caller has the answer already."""
        route = _route(scope)
        if trace.reason is not None:
            self._refused(route, trace.reason).inc()
        self._requests.ended(scope["method"] if route != UNMATCHED else "any", route, status, trace)
        if self._tracing is not None:
            self._tracing.ended(scope, route, status, trace)


def _route(scope: Scope) -> str:
    """The pattern that matched: a path itself holds ids."""
    unmatched: str = scope.get("reelrank.route", UNMATCHED)
    path: str = getattr(scope.get("route"), "path", unmatched)
    return path.replace(":path}", "}")


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
