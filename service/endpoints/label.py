"""POST /label."""

from __future__ import annotations

from time import perf_counter
from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from service.endpoints.label_stream import NdjsonLabels
from service.http.openapi import operations as docs
from service.http.request import JSON, NDJSON, content_type, flag
from service.pipeline.label import STEP
from service.pipeline.label_query import LabelQuery, decode_events
from service.pipeline.label_reply import label_reply
from service.services import Services
from service.telemetry.trace import current_trace

_encode: Final = msgspec.json.Encoder().encode


def label_routes(services: Services) -> APIRouter:
    """Return the route of POST /label."""
    router = APIRouter()
    pipeline, reader = services.label, services.reader

    @router.post("/label", tags=["feedback"], openapi_extra=docs.LABEL)
    @services.keys.require("label")
    async def post_label(request: Request) -> Response:
        """Label exposures and add them to their users' sequences.

        Each event has an outcome of its own: a bad one is named in `rejected`, the others go through. The
        same `event_id` again changes nothing (`duplicate`); with more feedback it merges. When this has
        answered, the events are stored and the next /rerank sees them.

        As `application/x-ndjson` the body may be endless: one event a line in, one label or rejection a line
        out while the body is still arriving, in the same order, and a summary as the last line. Read the
        answer while you write: neither side holds more than a few lines.
        """
        labels = request.query_params.get("labels")
        names = [] if labels is None else [name.strip() for name in labels.split(",")]
        target, store = pipeline.target(names), flag(request, "store", default=True)
        if content_type(request, JSON, NDJSON) == NDJSON:
            return NdjsonLabels(request, services, target, store)
        trace, budget = current_trace(), services.admission.events
        budget.check(caller=trace.caller)
        body = await reader.body(request)
        async with reader.time_limit(request) as deadline:
            events = decode_events(body, services.settings.max_events)
            trace.mark("parse")
            with budget.take(min(len(events), STEP), deadline - perf_counter(), trace.caller):
                labelled = await pipeline.run(LabelQuery(events, target, store))
        content = _encode(label_reply(labelled, trace))
        trace.mark("encode")
        return Response(content, media_type=JSON)

    return router
