"""The outermost middleware: what every request gets and every response carries. Plain ASGI: it is hot."""

from __future__ import annotations

import asyncio
import logging
import os
from functools import cache
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from models.errors import NotReady
from service.http.errors import response_of
from service.telemetry.metrics import Metrics
from service.telemetry.requests import RequestLog
from service.telemetry.trace import Trace, set_current_trace
from service.telemetry.tracing import Tracing

log = logging.getLogger("reelrank.api")

MAX_REQUEST_ID: Final = 128
UNMATCHED: Final = "unmatched"

FIXED: Final = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
"""Headers of every response: no client guesses its type, and no cache keeps what it holds of a user."""


class RequestContextMiddleware:
    """Gives a request its id and its trace, adds `X-Request-Id` and `Server-Timing`, counts, times, and logs.

    Args:
        app: everything else.
        metrics: what requests are counted in.
        log: of requests.
        tracing: makes spans; `None` when it is off.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: Metrics,
        log: RequestLog,
        tracing: Tracing | None,
    ) -> None:
        self._app = app
        self._log = log
        self._tracing = tracing
        self._in_flight = metrics.in_flight
        # The children of a metric, without prometheus_client's look-up at each request. Routes are few.
        self._requests = cache(metrics.requests.labels)
        self._seconds = cache(metrics.seconds.labels)
        self._refusals = cache(metrics.refusals.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # as GET; the server, which has the other scope, leaves out the body
            scope = {**scope, "method": "GET"}
        trace = Trace(_request_id(scope), scope.get("reelrank.arrived"))
        trace.mark("wait")
        set_current_trace(trace)
        status = 0
        complete = False

        async def timed_send(message: Message) -> None:
            nonlocal status, complete
            if message["type"] == "http.response.start":
                status = message["status"]
                trace.mark("rest")
                message["headers"] = [
                    *message.get("headers", ()),
                    (b"x-request-id", trace.request_id.encode()),
                    (b"server-timing", trace.server_timing()),
                    *FIXED,
                ]
                self._observe(scope, status, trace)
            else:
                complete = not message.get("more_body", False)
            await send(message)

        self._in_flight.inc()
        try:
            await self._app(scope, receive, timed_send)
        except asyncio.CancelledError:
            # Only the end of `grace_s` cancels requests: of clients that do not send, or do not read.
            if not status:
                await response_of(NotReady("The service is shutting down."))(scope, receive, timed_send)
        except Exception:
            named = {"request_id": trace.request_id, "method": scope["method"], "route": _route(scope)}
            log.exception("a fault in the service", extra=named)
            if not complete:  # the server must hang up
                raise
        finally:
            self._in_flight.dec()
            if status:
                self._ended(scope, status, trace)

    def _observe(self, scope: Scope, status: int, trace: Trace) -> None:
        route = _route(scope)
        # An unknown method is a caller's text, and must not become a label of its own.
        self._requests(route, scope["method"] if route != UNMATCHED else "any", status).inc()
        for stage, took in trace.stages.items():
            self._seconds(route, stage).observe(took)
        self._seconds(route, "total").observe(sum(trace.stages.values()))

    def _ended(self, scope: Scope, status: int, trace: Trace) -> None:
        """Count, log and trace a request whose caller has the response already."""
        route = _route(scope)
        if trace.reason is not None:
            self._refusals(route, trace.reason).inc()
        self._log.ended(scope["method"] if route != UNMATCHED else "any", route, status, trace)
        if self._tracing is not None:
            self._tracing.ended(scope, route, status, trace)


def _route(scope: Scope) -> str:
    """Return the pattern that matched: a path itself holds ids."""
    unmatched: str = scope.get("reelrank.route", UNMATCHED)
    path: str = getattr(scope.get("route"), "path", unmatched)
    return path.replace(":path}", "}")


def _request_id(scope: Scope) -> str:
    """Return the caller's id, if it is short and printable: it comes back in a header and goes to logs."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            if 0 < len(text) <= MAX_REQUEST_ID and text.isascii() and text.isprintable():
                return text
            break
    return new_request_id()


def new_request_id() -> str:
    """Return an id for a request that brought none."""
    return os.urandom(8).hex()
