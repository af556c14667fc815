"""The steps of a request, each timed by itself in this process: where the time of /rerank and /label goes.

The steps run in the order that a request has them, one round after the other, because what a step finds in
the caches is what the one before has left there: timed in a loop of its own each would look several times as
fast. What is left of a request's time is HTTP, waiting, admission and counting.
"""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import uvloop

from models.runtime import Bundle
from models.schema import FeedbackEvent
from service.catalogue.catalogue import Catalogue
from service.pipeline.label_query import decode_events
from service.pipeline.labels import label
from service.pipeline.ranking import (
    RankingContext,
    Slate,
    fusion_weights,
    ordered_slate,
    ranker_inputs,
    ranker_outputs,
)
from service.pipeline.rerank_query import RerankBody
from service.pipeline.rerank_reply import items
from service.pipeline.validation import validate_events
from service.state import EmbeddedServer, RedisStore
from service.wire import Label

ROUNDS: Final = 400
WARM_UP: Final = 50

Steps = dict[str, float]


def rerank_steps(
    bundle: Bundle, histories: dict[str, list[FeedbackEvent]], slates: Sequence[dict[str, Any]]
) -> Steps:
    """Milliseconds of each step of POST /rerank, medians.

    Args:
        bundle: that answers.
        histories: by user.
        slates: bodies, for those users.
    """

    async def rounds(store: RedisStore) -> Steps:
        for events in histories.values():
            await store.record_many(events)
        return await _rerank_rounds(bundle, store, [json.dumps(slate).encode() for slate in slates])

    return _on_a_store(rounds)


def label_steps(bundle: Bundle, bodies: Iterator[list[dict[str, Any]]]) -> Steps:
    """Milliseconds of each step of POST /label for a whole body, medians.

    Args:
        bundle: that answers.
        bodies: lists of events that are new each time, as many as are asked for.
    """
    return _on_a_store(lambda store: _label_rounds(bundle, store, bodies))


def _on_a_store(rounds: Callable[[RedisStore], Coroutine[Any, Any, Steps]]) -> Steps:
    async def main() -> Steps:
        with tempfile.TemporaryDirectory() as folder, EmbeddedServer(Path(folder) / "store") as server:
            store = RedisStore.open(server.url)
            try:
                return await rounds(store)
            finally:
                await store.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


async def _label_rounds(bundle: Bundle, store: RedisStore, bodies: Iterator[list[dict[str, Any]]]) -> Steps:
    encoder, names = msgspec.json.Encoder(), bundle.manifest.labels[:1]
    complete = Catalogue().complete_event
    clock = _Clock()
    for number in range(WARM_UP + ROUNDS):
        if number == WARM_UP:
            clock = _Clock()
        body = json.dumps(next(bodies)).encode()
        events = clock.timed("decode", lambda body=body: decode_events(body, len(body)))
        validated = clock.timed(
            "admit",
            lambda events=events: validate_events(list(map(complete, events)), now_ms=2**52, late_s=0.0),
        )
        exposures = [exposure.event for exposure in validated.accepted]
        await clock.waited("write", lambda exposures=exposures: store.record_many(exposures))
        labels = clock.timed("label", lambda exposures=exposures: label(bundle, exposures, names))
        clock.timed(
            "encode",
            lambda exposures=exposures, labels=labels: encoder.encode(
                [
                    Label(event.event_id, event.user_id, event.video_id, value, {names[0]: value})
                    for event, value in zip(exposures, labels.by_name[names[0]], strict=True)
                ]
            ),
        )
    return clock.medians_ms()


async def _rerank_rounds(bundle: Bundle, store: RedisStore, bodies: Sequence[bytes]) -> Steps:
    encoder = msgspec.json.Encoder()
    weights, names = fusion_weights(bundle.manifest, None), ranker_outputs(bundle, explain=False)
    clock = _Clock()
    for number in range(WARM_UP + ROUNDS):
        if number == WARM_UP:
            clock = _Clock()
        body = bodies[number % len(bodies)]
        asked = clock.timed("decode", lambda body=body: RerankBody(body, False, math.inf).decode())
        history = await clock.waited("state", lambda asked=asked: store.history(asked.user_id))
        assert history is not None
        context = RankingContext(
            asked.candidates, history.exposures, history.profile, asked.tab, asked.timestamp_ms or 0
        )
        inputs = clock.timed("features", lambda context=context: ranker_inputs(bundle, context))
        out = clock.timed("inference", lambda inputs=inputs: bundle.run_ranker(inputs, names))
        ranked: Slate = clock.timed(
            "order", lambda inputs=inputs, out=out: ordered_slate(bundle, inputs, out, weights)
        )
        clock.timed(
            "encode",
            lambda asked=asked, ranked=ranked: encoder.encode(
                items(asked.candidates, ranked, tuple(ranked.objectives), asked.top_k)
            ),
        )
    return clock.medians_ms()


class _Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self._took: dict[str, list[float]] = {}

    def timed(self, step: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = call()
        self._took.setdefault(step, []).append(time.perf_counter() - began)
        return result

    async def waited(self, step: str, call: Callable[[], Awaitable[Any]]) -> Any:
        began = time.perf_counter()
        result = await call()
        self._took.setdefault(step, []).append(time.perf_counter() - began)
        return result

    def medians_ms(self) -> Steps:
        return {step: round(statistics.median(took) * 1e3, 3) for step, took in self._took.items()}
