"""POST /label."""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.errors import BadInput, Invalid, NothingAccepted
from service.endpoints.label_stream import NdjsonLabels
from service.http import body as bodies
from service.http.auth import allow
from service.http.deadline import in_time
from service.http.label_request import read_body
from service.http.openapi import operations as docs
from service.overload.admission import LABEL_COST
from service.pipeline.label import ingest
from service.pipeline.labels import choose
from service.services import services_of, trace_of
from service.wire import LabelReply

router = APIRouter()
_encode: Final = msgspec.json.Encoder().encode


@router.post("/label", tags=["feedback"], openapi_extra=docs.LABEL)
async def post_label(request: Request) -> Response:
    """Label exposures and add them to their users' sequences.

    Each event has an outcome of its own: a bad one is named in `rejected`, the others go through. The same
    `event_id` again changes nothing (`duplicate`); with more feedback it merges. When this has answered, the
    events are stored and the next /rerank sees them.

    As `application/x-ndjson` the body may be endless: one event a line in, one label or rejection a line out
    while the body is still arriving, in the same order, and a summary as the last line. Read the answer while
    you write: neither side holds more than a few lines.
    """
    services, trace = services_of(request), trace_of(request)
    allow(request, services.keys, "label")
    serving = services.slot.serving()
    asked = request.query_params.get("labels")
    try:
        names = choose(
            serving.current, [name.strip() for name in asked.split(",")] if asked is not None else []
        )
    except BadInput as e:
        raise Invalid(str(e), loc="labels") from None
    store = bodies.flag(request, "store", True)
    if bodies.content_type(request, bodies.JSON, bodies.NDJSON) == bodies.NDJSON:
        return NdjsonLabels(request, services, trace, serving, names, store=store)
    events = read_body(
        await bodies.read(request, services.settings.max_body_bytes), services.settings.max_events
    )
    trace.mark("parse")
    with services.admission.events.take(LABEL_COST + len(events)):
        async with in_time(request):
            done = await ingest(services, serving, events, names, store=store, trace=trace)
    if done.rejected and not done.labels:
        raise NothingAccepted(done.rejected)
    reply = LabelReply(
        status="ok",
        accepted=done.accepted,
        duplicates=done.duplicates,
        merged=done.merged,
        rejected=done.rejected,
        labels=[label for _, label in done.labels],
        model_version=done.version(serving),
        took_ms=trace.took_ms(),
    )
    content = _encode(reply)
    trace.mark("encode")
    return Response(content, media_type=bodies.JSON)
