"""Previews: slates and labels by a version of choice, without a trace. For people who look into them."""

from __future__ import annotations

from functools import partial

import anyio.to_thread
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.errors import Invalid
from service.http.openapi import operations as docs
from service.http.request import JSON, flag, json_response
from service.pipeline.influence import influences
from service.pipeline.label_query import LabelQuery, decode_events
from service.pipeline.label_reply import label_reply
from service.pipeline.rerank import RankedSlate
from service.pipeline.rerank_query import RerankBody
from service.pipeline.rerank_reply import encode_reply, influence_reply
from service.services import Services
from service.telemetry.trace import current_trace

MAX_INFLUENCED = 20
"""Candidates of one request for influences; each is ranked once for every exposure of the sequence."""


def preview_routes(services: Services) -> APIRouter:
    """Return the routes of /v1/preview."""
    router = APIRouter(tags=["previews"])
    previews, reader, keys, settings = services.previews, services.reader, services.keys, services.settings

    async def ranked_slate(request: Request, *, explain: bool) -> RankedSlate:
        pipeline = previews.rerank(request.query_params.get("version"))
        deadline = reader.deadline(request, settings.label_deadline_ms)
        return await pipeline.run(RerankBody(await reader.json(request), explain, deadline))

    @router.post("/v1/preview/rerank", openapi_extra=docs.PREVIEW_RERANK)
    @keys.require("read")
    async def post_rerank(request: Request) -> Response:
        """Order candidates as POST /rerank does, by a version of choice and without a trace.

        The slate is not counted as an answer, sampled, or compared with a shadow. It is refused (429) while
        requests use more than a quarter of their budget.
        """
        ranked = await ranked_slate(request, explain=flag(request, "explain", default=False))
        return Response(encode_reply(ranked, current_trace()), media_type=JSON)

    @router.post("/v1/preview/influence", openapi_extra=docs.PREVIEW_INFLUENCE)
    @keys.require("read")
    async def post_influence(request: Request) -> Response:
        """Say what each exposure of the user's sequence adds to the scores of at most 20 candidates.

        That is the score with it minus the score without it (leave-one-out).
        """
        ranked = await ranked_slate(request, explain=False)
        if (size := len(ranked.context.candidates)) > MAX_INFLUENCED:
            raise Invalid(f"At most {MAX_INFLUENCED} candidates, found {size}.", loc="candidates")
        with services.spare.take(size):
            compute = partial(influences, ranked.bundle, ranked.context, ranked.weights)
            found = await anyio.to_thread.run_sync(compute)
        return json_response(influence_reply(ranked, found, current_trace()))

    @router.post("/v1/preview/label", openapi_extra=docs.PREVIEW_LABEL)
    @keys.require("read")
    async def post_label(request: Request) -> Response:
        """Label exposures as POST /label does, by a version of choice and without a trace: nothing is stored,
        counted as an answer, or sampled."""
        pipeline = previews.label(request.query_params.get("version"))
        labels = request.query_params.get("labels")
        target = pipeline.target([] if labels is None else [name.strip() for name in labels.split(",")])
        body = await reader.json(request)
        async with reader.time_limit(request):
            events = decode_events(body, settings.max_events)
            with services.spare.take(len(events)):
                labelled = await pipeline.run(LabelQuery(events, target, store=False))
        return json_response(label_reply(labelled, current_trace()))

    return router
