"""POST /rerank."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.errors import BadInput, DeadlineExceeded, Invalid, StoreUnavailable
from models.features import Exposures
from service.http import body as bodies
from service.http.auth import allow
from service.http.deadline import deadline_s
from service.http.openapi import operations as docs
from service.http.rerank_reply import items
from service.http.rerank_request import Asked, read, whose
from service.inference import compute
from service.inference.serving_set import Serving
from service.overload.admission import SLATE_COST
from service.pipeline.rerank import checked_objectives, checked_weights, distinct, rerank, rerank_together
from service.pipeline.shadow import offer_slate
from service.services import Services, services_of, trace_of
from service.state.protocol import History
from service.telemetry.trace import Trace
from service.wire import RerankReply

router = APIRouter()

STATE_SHARE: Final = 0.5
"""Of the time that is left, the share the store may take before the answer goes on without it."""

Reading = asyncio.Task[History | None]

NOBODY: Final = History(Exposures.from_events([]), {})

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
    body = await bodies.read(request, services.settings.max_body_bytes)
    reading = await _begun(services, body)
    try:
        asked = read(body)
        reply = await ranked(
            services, trace, serving, asked, deadline_s=until_s, explain=explain, reading=reading
        )
    finally:
        if reading is not None and not reading.cancel() and not reading.cancelled():
            reading.exception()  # of a request that was refused, nobody has asked for it
    content = _encode(reply)
    trace.mark("encode")
    return Response(content, media_type=bodies.JSON)


async def ranked(
    services: Services,
    trace: Trace,
    serving: Serving,
    asked: Asked,
    *,
    deadline_s: float,
    explain: bool,
    reading: Reading | None = None,
) -> RerankReply:
    """The answer to a request that has been read, in whatever vocabulary it came. `reading` is what the store
    holds on the user, if it was asked already.

    Raises:
        Invalid: too many candidates, or weights that this bundle does not have.
        Overloaded: there is no room for so many.
        DeadlineExceeded: it would come too late.
    """
    bodies.limited(
        asked.candidates.video_id, services.settings.max_candidates, "candidates", "REELRANK_MAX_CANDIDATES"
    )
    with services.admission.candidates.take(SLATE_COST + len(asked.candidates)):
        return await _ranked(services, trace, serving, asked, deadline_s, explain=explain, reading=reading)


async def _ranked(
    services: Services,
    trace: Trace,
    serving: Serving,
    asked: Asked,
    deadline_s: float,
    *,
    explain: bool,
    reading: Reading | None,
) -> RerankReply:
    settings = services.settings
    bundle = serving.of_user(asked.user_id)
    try:
        weights = checked_weights(bundle, asked.weights)
    except BadInput as e:
        raise Invalid(str(e), loc="weights") from None
    try:
        told = checked_objectives(bundle, asked.objectives)
    except BadInput as e:
        raise Invalid(str(e), loc="objectives") from None
    trace.version = bundle.manifest.version
    candidates, again = distinct(asked.candidates)
    candidates = services.catalogue.complete(candidates)
    trace.mark("parse")

    state, degraded = await _state(services, asked.user_id, deadline_s, trace, reading)
    trace.mark("state")
    if trace.elapsed_s() > deadline_s:
        raise DeadlineExceeded(f"{deadline_s * 1e3:g} ms were over before anything was ranked.")

    asking: dict[str, Any] = {
        "exposures": state.exposures,
        "profile": state.profile,
        "tab": asked.tab,
        "now_ms": int(time.time() * 1000) if asked.timestamp_ms is None else asked.timestamp_ms,
    }
    how: dict[str, Any] = {"weights": weights, "explain": explain, "recorded": services.recorded}
    if bundle.on_gpu:
        slate = await rerank_together(services.batches, bundle, candidates, **asking, **how)
    else:
        inline = len(candidates) <= settings.inline_candidates
        slate = await compute.run(inline, rerank, bundle, candidates, **asking, **how)
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
        offer_slate(services, serving.shadow, bundle, slate, candidates, asked.weights, **asking)
    return RerankReply(
        request_id=asked.request_id if asked.request_id is not None else trace.request_id,
        items=items(candidates, slate, told, asked.top_k),
        model_version=bundle.manifest.version,
        degraded=degraded,
        warnings=[f"Candidate {video_id!r} is named more than once; ranked once." for video_id in again],
        history_length=slate.history_length,
        took_ms=trace.took_ms(),
    )


async def _begun(services: Services, body: bytes) -> Reading | None:
    """Ask the store for the history while the body is read. It costs a turn of the event loop, which is a
    tenth of what the store takes."""
    user_id = whose(body)
    if user_id is None:
        return None
    reading = asyncio.create_task(services.store.history(user_id))
    await asyncio.sleep(0)  # it has sent its command when this returns
    return reading


async def _state(
    services: Services, user_id: str, deadline_s: float, trace: Trace, reading: Reading | None
) -> tuple[History, list[str]]:
    """What the store holds on the user; without it, nobody's state, and `degraded` says so.

    Raises:
        DeadlineExceeded: the time is up before the store was asked.
    """
    left_s = deadline_s - trace.elapsed_s()
    if left_s <= 0:
        raise DeadlineExceeded(f"{deadline_s * 1e3:g} ms were over before the user's state was read.")
    try:
        async with asyncio.timeout(left_s * STATE_SHARE):
            return await (reading or services.store.history(user_id)) or NOBODY, []
    except (StoreUnavailable, TimeoutError):
        return NOBODY, ["history"]
