"""POST /rank/{model}."""

from __future__ import annotations

from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.errors import Invalid, UnknownModel
from models.manifest import Manifest
from service.adapters.metarank import docs, mapping
from service.adapters.metarank.docs import DEFAULT
from service.adapters.metarank.events import checked_type
from service.adapters.metarank.wire import Field, RankedScore, RankReply, RankRequest
from service.http.request import JSON, flag
from service.pipeline.decoding import decode
from service.pipeline.rerank_query import RerankQuery
from service.pipeline.rerank_reply import rerank_reply
from service.services import services_of
from service.telemetry.trace import current_trace
from service.wire import Item, RerankRequest

router = APIRouter(tags=["metarank"])

_request: Final = msgspec.json.Decoder(RankRequest)
_encode: Final = msgspec.json.Encoder().encode


@router.post("/rank/{model}", openapi_extra=docs.RANK)
async def post_rank(request: Request) -> Response:
    """POST /rerank in Metarank's words. `model` is `default`, or an objective of the bundle to rank by alone.

    A visitor without a `user` is known by the `session`, and one with neither has no history.
    """
    services, trace = services_of(request), current_trace()
    services.keys.check(request.headers.get("authorization"), "rerank")
    explain = flag(request, "explain", default=False)
    weights = _weights(request.path_params["model"], services.serving.active().manifest)
    checked_type(request)
    asked = decode(_request, await services.reader.body(request))
    slate = _rerank_request(asked, weights, anonymous=f"anonymous {trace.request_id}")
    deadline = services.reader.deadline(request, services.settings.deadline_ms)
    ranked = await services.rerank.run(RerankQuery.from_request(slate, explain=explain, deadline=deadline))
    reply = rerank_reply(ranked, trace)
    scores = [
        RankedScore(item.video_id, item.score, _features(item) if explain else None) for item in reply.items
    ]
    content = _encode(RankReply(round(trace.took_ms()), scores, reply.degraded))
    trace.mark("encode")
    return Response(content, media_type=JSON)


def _weights(model: str, manifest: Manifest) -> dict[str, float] | None:
    if model == DEFAULT:
        return None
    if model in manifest.objectives:
        return {model: 1.0}
    known = ", ".join((DEFAULT, *manifest.objectives))
    raise UnknownModel(f"There is no model {model[:64]!r}; the models are {known}.")


def _rerank_request(asked: RankRequest, weights: dict[str, float] | None, *, anonymous: str) -> RerankRequest:
    candidates = []
    for index, item in enumerate(asked.items):
        try:
            candidates.append(mapping.candidate(item))
        except Invalid as e:
            raise Invalid(str(e), loc=f"items[{index}].{e.loc}") from None
    return RerankRequest(
        user_id=asked.user or asked.session or anonymous,
        candidates=candidates,
        request_id=asked.id,
        timestamp_ms=asked.timestamp,
        weights=weights,
        tab=mapping.tab(asked.fields),
    )


def _features(item: Item) -> list[Field]:
    """What the score is made of, as Metarank lists it."""
    values = {"watch_time_s": item.watch_time_s, "watch_ratio": item.watch_ratio, **item.objectives}
    if item.explanation is not None:
        values |= {f"watch_time_s_{name}": s for name, s in item.explanation.watch_time_s.items()}
        values |= {f"part_{name}": part for name, part in item.explanation.parts.items()}
    return [Field(name, value) for name, value in values.items()]
