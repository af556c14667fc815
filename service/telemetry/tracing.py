"""Spans of requests, sent by OpenTelemetry (OTLP over HTTP). Optional, and imported only when configured.

A request's spans are made after it has been answered, from the marks of its `Trace`: nothing is opened or
closed while it is being answered. Where spans go, and how often, is configured by OpenTelemetry's own
variables, e.g. `OTEL_EXPORTER_OTLP_ENDPOINT` and `OTEL_RESOURCE_ATTRIBUTES`.
"""

from __future__ import annotations

import os
import threading
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from models.errors import BadInput
from service.telemetry.trace import Trace

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer
    from starlette.types import Scope

MODULES: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")

FLUSH_S: Final = 2.0
"""How long `close` waits for spans to be sent."""


def require() -> None:
    """Check that spans can be made.

    Raises:
        BadInput: the extra `tracing` is not installed.
    """
    for module in MODULES:
        try:
            found = find_spec(module)
        except ModuleNotFoundError:  # of a package above it
            found = None
        if found is None:
            raise BadInput(
                f"REELRANK_TRACING asks for spans, and {module} is not installed. "
                "Install the extra: pip install 'reelrank[tracing]', or set REELRANK_TRACING=off."
            )


class Tracing:
    """Makes and sends the spans of requests.

    Args:
        share: of the requests without a `traceparent`; a `traceparent` carries its caller's decision.
        version: of this build.

    Raises:
        BadInput: the extra is not installed.
    """

    def __init__(self, share: float, version: str) -> None:
        require()
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        named = {} if "OTEL_SERVICE_NAME" in os.environ else {"service.name": "reelrank"}
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(share)),
            resource=Resource.create({**named, "service.version": version}),
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer: Tracer = self._provider.get_tracer("reelrank", version)

    def ended(self, scope: Scope, route: str, status: int, trace: Trace) -> None:
        """Make the spans of an answered request: one for all of it, and a child for each stage.

        A stage that a stream went through many times is one span of the time they took together.
        """
        from opentelemetry.propagate import extract
        from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

        end_ns = time.time_ns()
        begin_ns = end_ns - round(trace.elapsed_s() * 1e9)
        carrier = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        span = self._tracer.start_span(
            f"{scope['method']} {route}",
            context=extract(carrier) if carrier else None,
            kind=SpanKind.SERVER,
            start_time=begin_ns,
        )
        if not span.is_recording():
            return
        span.set_attribute("http.request.method", scope["method"])
        span.set_attribute("http.route", route)
        span.set_attribute("http.response.status_code", status)
        span.set_attribute("reelrank.request_id", trace.request_id)
        if trace.version is not None:
            span.set_attribute("reelrank.model_version", trace.version)
        if trace.reason is not None:
            span.set_attribute("error.type", trace.reason)
        if status >= 500:
            span.set_status(Status(StatusCode.ERROR))
        inside = set_span_in_context(span)
        at_ns = begin_ns
        for stage, seconds in trace.stages.items():
            child = self._tracer.start_span(stage, context=inside, start_time=at_ns)
            at_ns += round(seconds * 1e9)
            child.end(at_ns)
        span.end(end_ns)

    def close(self) -> None:
        """Send what is left, and stop. Blocks for `FLUSH_S` at most: what is not accepted by then is lost."""
        # The provider's own time-outs do not end an exporter that waits to try again.
        last = threading.Thread(target=self._provider.shutdown, daemon=True)
        last.start()
        last.join(FLUSH_S)
