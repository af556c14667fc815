"""POST /feedback and POST /rank/{model}; Metarank's GET /health is the service's own."""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.errors import NothingAccepted
from service.adapters.metarank import docs, mapping
from service.adapters.metarank.feedback import read_events, sort_events, store_changes
from service.adapters.metarank.wire import FeedbackReply, RankReply, RankRequest
from service.http.request import JSON, NDJSON, content_type, flag, json_response
from service.pipeline.decoding import decode
from service.pipeline.label import STEP
from service.pipeline.rerank_query import RerankQuery
from service.pipeline.rerank_reply import Items
from service.services import Services
from service.telemetry.trace import current_trace

_rank_request: Final = msgspec.json.Decoder(RankRequest)
_encode: Final = msgspec.json.Encoder().encode


def metarank_routes(services: Services) -> APIRouter:
    """Return the routes of Metarank's clients."""
    router = APIRouter(tags=["metarank"])
    reader, settings = services.reader, services.settings

    @router.post("/feedback", openapi_extra=docs.FEEDBACK)
    @services.keys.require("label")
    async def post_feedback(request: Request) -> Response:
        """Take Metarank's events: `item` updates the catalogue, `user` the profile, `interaction` its
        exposure, and `ranking` names the user of later interactions.

        A body is one event, an array, or any number of either. Each event has an outcome of its own; what is
        accepted is stored when this answers.
        """
        trace, target = current_trace(), services.label.target([])
        _check_content_type(request)
        events = read_events(await reader.body(request), settings.max_events)
        changes = sort_events(events, target.serving.active.manifest)
        trace.mark("parse")
        with services.admission.events.take(min(len(events), STEP), caller=trace.caller):
            async with reader.time_limit(request):
                updated = await store_changes(services, target, changes)
        rejected = sorted(changes.rejected, key=lambda r: r.index)
        if rejected and len(rejected) == len(events):
            raise NothingAccepted(rejected)
        reply = FeedbackReply(
            status="partial" if rejected else "ok",
            accepted=len(events) - len(rejected),
            updated=updated,
            tookMillis=round(trace.took_ms()),
            ignored=changes.ignored,
            rejected=rejected,
        )
        return json_response(reply)

    @router.post("/rank/{model}", openapi_extra=docs.RANK)
    @services.keys.require("rerank")
    async def post_rank(request: Request) -> Response:
        """Rank as POST /rerank does. `model` is `default`, or an objective of the bundle to rank by alone.

        A visitor without a `user` is known by the `session`; without both the sequence is empty.
        """
        trace, explain = current_trace(), flag(request, "explain", default=False)
        weights = mapping.to_weights(request.path_params["model"], services.serving.active().manifest)
        _check_content_type(request)
        rank_request = decode(_rank_request, await reader.body(request))
        slate = mapping.to_rerank_request(rank_request, weights, anonymous=f"anonymous {trace.request_id}")
        deadline = reader.deadline(request, settings.deadline_ms)
        query = RerankQuery.from_request(slate, explain=explain, deadline=deadline)
        ranked = await services.rerank.run(query)
        scores = mapping.to_ranked_scores(Items.from_ranked(ranked), features=explain)
        content = _encode(RankReply(round(trace.took_ms()), scores, ranked.degraded))
        trace.mark("encode")
        return Response(content, media_type=JSON)

    return router


def _check_content_type(request: Request) -> None:
    """Accept any type, as Metarank does (curl's `-d` says it is a form), except from a page in a browser.

    Raises:
        WrongContentType: not JSON and from a page (with `Origin`), or compressed.
    """
    if "origin" in request.headers or request.headers.get("content-encoding"):
        content_type(request, JSON, NDJSON)
