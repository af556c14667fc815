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
from service.endpoints.rerank import ranked
from service.http import body as bodies
from service.http.auth import allow
from service.http.deadline import deadline_s
from service.http.rerank_request import Asked
from service.services import services_of, trace_of
from service.wire import Item, RerankRequest

router = APIRouter(tags=["metarank"])

_request: Final = msgspec.json.Decoder(RankRequest)
_encode: Final = msgspec.json.Encoder().encode


@router.post("/rank/{model}", openapi_extra=docs.RANK)
async def post_rank(request: Request) -> Response:
    """POST /rerank in Metarank's words. `model` is `default`, or an objective of the bundle to rank by alone.

    A visitor without a `user` is known by the `session`, and one with neither has no history.
    """
    services, trace = services_of(request), trace_of(request)
    allow(request, services.keys, "rerank")
    serving = services.slot.serving()
    explain = bodies.flag(request, "explain", False)
    weights = _weights(request.path_params["model"], serving.current.manifest)
    checked_type(request)
    asked = bodies.decode(_request, await bodies.read(request, services.settings.max_body_bytes))
    slate = _slate(asked, weights, nobody=f"anonymous {trace.request_id}")
    answer = await ranked(
        services,
        trace,
        serving,
        slate,
        deadline_s=deadline_s(request, services.settings.deadline_ms),
        explain=explain,
    )
    scores = [
        RankedScore(item.video_id, item.score, _features(item) if explain else None) for item in answer.items
    ]
    content = _encode(RankReply(round(trace.took_ms()), scores, answer.degraded))
    trace.mark("encode")
    return Response(content, media_type=bodies.JSON)


def _weights(model: str, manifest: Manifest) -> dict[str, float] | None:
    if model == DEFAULT:
        return None
    if model in manifest.objectives:
        return {model: 1.0}
    known = ", ".join((DEFAULT, *manifest.objectives))
    raise UnknownModel(f"There is no model {model[:64]!r}; the models are {known}.")


def _slate(asked: RankRequest, weights: dict[str, float] | None, *, nobody: str) -> Asked:
    candidates = []
    for index, item in enumerate(asked.items):
        try:
            candidates.append(mapping.candidate(item))
        except Invalid as e:
            raise Invalid(str(e), loc=f"items[{index}].{e.loc}") from None
    request = RerankRequest(
        user_id=asked.user or asked.session or nobody,
        candidates=candidates,
        request_id=asked.id,
        timestamp_ms=asked.timestamp,
        weights=weights,
        tab=mapping.tab(asked.fields),
    )
    return Asked.of(request)


def _features(item: Item) -> list[Field]:
    """What the score is made of, as Metarank lists it."""
    values = {"watch_time_s": item.watch_time_s, "watch_ratio": item.watch_ratio, **item.objectives}
    if item.explanation is not None:
        values |= {f"watch_time_s_{name}": s for name, s in item.explanation.watch_time_s.items()}
        values |= {f"part_{name}": part for name, part in item.explanation.parts.items()}
    return [Field(name, value) for name, value in values.items()]
