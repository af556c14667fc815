"""POST /rerank."""

from __future__ import annotations

from time import perf_counter

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.http.openapi import operations as docs
from service.http.request import JSON, flag
from service.pipeline.rerank_query import RerankBody
from service.pipeline.rerank_reply import encode_reply
from service.services import Services
from service.telemetry.trace import current_trace


def rerank_routes(services: Services) -> APIRouter:
    """Return the route of POST /rerank."""
    router = APIRouter()
    pipeline, reader, settings = services.rerank, services.reader, services.settings

    @router.post("/rerank", tags=["ranking"], openapi_extra=docs.RERANK)
    @services.keys.require("rerank")
    async def post_rerank(request: Request) -> Response:
        """Order candidates for one user by what they would watch and like.

        Unknown users and videos have a defined answer. Members that a candidate lacks come from the
        catalogue; a video that is named twice is ranked once, as first mentioned, and named in `warnings`.
        Equal scores keep your order. With the store away the answer is from an empty history and says so in
        `degraded`.
        """
        trace = current_trace()
        explain = flag(request, "explain", default=False)
        deadline = reader.deadline(request, settings.deadline_ms)
        services.admission.candidates.check(deadline - perf_counter(), trace.caller)
        body = RerankBody(await reader.json(request), explain, deadline)
        content = encode_reply(await pipeline.run(body), trace)
        trace.mark("encode")
        return Response(content, media_type=JSON)

    return router
