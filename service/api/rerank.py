"""POST /rerank."""

from __future__ import annotations

import asyncio
import time
from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.errors import BadInput, DeadlineExceeded, StoreUnavailable
from service.api import body as bodies
from service.api.auth import allow
from service.api.deadline import deadline_s
from service.api.docs import operations as docs
from service.api.errors import Invalid
from service.api.services import Services, services_of, trace_of
from service.api.shadow import offer_slate
from service.api.slate import items
from service.api.wire import RerankReply, RerankRequest
from service.core.reranker import checked_weights, distinct, rerank
from service.runtime import compute
from service.runtime.admission import SLATE_COST
from service.runtime.slot import Serving
from service.store.protocol import UserState
from service.telemetry.trace import Trace

router = APIRouter()

STATE_SHARE: Final = 0.5
"""Of the time that is left, the share the store may take before the answer goes on without it."""

NOBODY: Final = UserState([], {})

_request: Final = msgspec.json.Decoder(RerankRequest)
_encode: Final = msgspec.json.Encoder().encode


@router.post("/rerank", tags=["ranking"], openapi_extra=docs.RERANK)
async def post_rerank(request: Request) -> Response:
    """Order candidates for one user by what they would watch and like.

    Unknown users and videos have a defined answer. Members that a candidate lacks come from the catalogue;
    a video that is named twice is ranked once, as first mentioned, and named in `warnings`. Equal scores
    keep your order. With the store away the answer is from an empty history and says so in `degraded`.
    """
    services, trace = services_of(request), trace_of(request)
    allow(request, services.keys, "rerank")
    serving = services.slot.serving()
    explain = bodies.flag(request, "explain", False)
    until_s = deadline_s(request, services.settings.deadline_ms)
    bodies.content_type(request, bodies.JSON)
    asked = bodies.decode(_request, await bodies.read(request, services.settings.max_body_bytes))
    reply = await ranked(services, trace, serving, asked, deadline_s=until_s, explain=explain)
    content = _encode(reply)
    trace.mark("encode")
    return Response(content, media_type=bodies.JSON)


async def ranked(
    services: Services,
    trace: Trace,
    serving: Serving,
    asked: RerankRequest,
    *,
    deadline_s: float,
    explain: bool,
) -> RerankReply:
    """The answer to a request that has been read, in whatever vocabulary it came.

    Raises:
        Invalid: too many candidates, or weights that this bundle does not have.
        Overloaded: there is no room for so many.
        DeadlineExceeded: it would come too late.
    """
    bodies.limited(
        asked.candidates, services.settings.max_candidates, "candidates", "REELRANK_MAX_CANDIDATES"
    )
    with services.admission.candidates.take(SLATE_COST + len(asked.candidates)):
        return await _ranked(services, trace, serving, asked, deadline_s, explain=explain)


async def _ranked(
    services: Services,
    trace: Trace,
    serving: Serving,
    asked: RerankRequest,
    deadline_s: float,
    *,
    explain: bool,
) -> RerankReply:
    settings = services.settings
    bundle = serving.of_user(asked.user_id)
    try:
        weights = checked_weights(bundle, asked.weights)
    except BadInput as e:
        raise Invalid(str(e), loc="weights") from None
    trace.version = bundle.manifest.version
    candidates, again = distinct(asked.candidates)
    candidates = services.catalogue.complete(candidates)
    trace.mark("parse")

    state, degraded = await _state(services, asked.user_id, deadline_s, trace)
    trace.mark("state")

    now_ms = int(time.time() * 1000) if asked.timestamp_ms is None else asked.timestamp_ms
    slate = await compute.run(
        len(candidates) <= settings.inline_candidates,
        rerank,
        bundle,
        candidates,
        events=state.events,
        profile=state.profile,
        tab=asked.tab,
        now_ms=now_ms,
        weights=weights,
        explain=explain,
        recorded=services.recorded,
    )
    trace.mark("inference")
    if trace.elapsed_s() > deadline_s:
        raise DeadlineExceeded(f"The answer took longer than {deadline_s * 1e3:g} ms.")

    metrics = services.metrics
    metrics.candidates.inc(len(candidates))
    metrics.bundles.answers.labels("rerank", bundle.manifest.version).inc()
    for what in degraded:
        metrics.degraded.labels(what).inc()
    for name in slate.nonfinite:
        metrics.nonfinite.labels(name).inc()
    metrics.drift.ranked(bundle.manifest.version, slate.history_length, slate.outputs())
    if serving.shadow is not None:
        offer_slate(
            services,
            serving.shadow,
            bundle,
            slate,
            candidates,
            asked.weights,
            events=state.events,
            profile=state.profile,
            tab=asked.tab,
            now_ms=now_ms,
        )
    return RerankReply(
        request_id=asked.request_id if asked.request_id is not None else trace.request_id,
        items=items(candidates, slate, asked.top_k),
        model_version=bundle.manifest.version,
        degraded=degraded,
        warnings=[f"Candidate {video_id!r} is named more than once; ranked once." for video_id in again],
        history_length=slate.history_length,
        took_ms=trace.took_ms(),
    )


async def _state(
    services: Services, user_id: str, deadline_s: float, trace: Trace
) -> tuple[UserState, list[str]]:
    """What the store holds on the user; without it, nobody's state, and `degraded` says so.

    Raises:
        DeadlineExceeded: the time is up before the store was asked.
    """
    left_s = deadline_s - trace.elapsed_s()
    if left_s <= 0:
        raise DeadlineExceeded(f"{deadline_s * 1e3:g} ms were over before the user's state was read.")
    try:
        async with asyncio.timeout(left_s * STATE_SHARE):
            return await services.store.read(user_id) or NOBODY, []
    except (StoreUnavailable, TimeoutError):
        return NOBODY, ["history"]
