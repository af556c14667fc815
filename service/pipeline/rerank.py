"""The pipeline of POST /rerank: query, history, bundle, slate."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from models.errors import DeadlineExceeded, Invalid, StoreUnavailable
from models.features import Exposures
from models.runtime import Bundle
from service.inference.experiments import Assignment
from service.inference.serving_set import LoadedRollout, ServingSet
from service.pipeline.arrangement import Arrangement, arrange
from service.pipeline.ports import Batcher, Capacity, Offload, Sampler, ServingSource, VideoLookup
from service.pipeline.ranking import (
    RankingContext,
    Slate,
    fusion_weights,
    ordered_slate,
    rank,
    ranker_inputs,
    ranker_outputs,
    returned_objectives,
)
from service.pipeline.rerank_query import RerankBody, RerankQuery
from service.pipeline.rules import check_pins
from service.pipeline.validation import too_early
from service.prefetch import Prefetch
from service.settings import Settings
from service.slate_rules import Explore
from service.state.protocol import History, Store
from service.telemetry.trace import current_trace

STATE_SHARE: Final = 0.5
"""Share of the remaining time that the store may take before the slate is ranked without a history."""

EMPTY_HISTORY: Final = History(Exposures.from_events([]), {})


@dataclass(frozen=True, slots=True)
class RankedSlate:
    """A slate, and how it came about."""

    query: RerankQuery
    bundle: Bundle
    """That ranked it."""
    shadow: LoadedRollout | None
    """The shadow of that moment."""
    context: RankingContext
    slate: Slate
    objectives: tuple[str, ...]
    """Of the reply."""
    degraded: list[str]
    """Parts that were unavailable: `history`."""
    repeated: list[str]
    """Video ids that the query names more than once."""
    weights: dict[str, float]
    """Of the score."""
    arrangement: Arrangement | None
    """How the slate is shown, if not in the order of its scores."""
    assigned: Assignment | None
    """The arm of the user, who is in an experiment."""


class RerankPipeline:
    """Ranks the candidates of a query for one user.

    Args:
        store: histories.
        catalogue: completes candidates.
        serving_set: the bundles that answer.
        settings: `max_candidates`, `earliest_ms`, `inline_candidates` and `explore`.
        capacity: in candidates.
        sampler: of slates whose predictions are all finite.
        batcher: for bundles on a GPU.
        offload: for large slates on the CPU.
        observers: called with every slate.

    Raises:
        BadInput: the setting `explore` is not as it should be.
    """

    def __init__(
        self,
        store: Store,
        catalogue: VideoLookup,
        serving_set: ServingSource,
        settings: Settings,
        *,
        capacity: Capacity,
        sampler: Sampler,
        batcher: Batcher,
        offload: Offload,
        observers: Sequence[Callable[[RankedSlate], None]],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._serving_set = serving_set
        self._capacity = capacity
        self._sampler = sampler
        self._batcher = batcher
        self._offload = offload
        self._observers = observers
        self._settings = settings
        text = settings.explore
        self._explore = Explore.parse(text, "REELRANK_EXPLORE") if text else None

    async def run(self, request: RerankBody | RerankQuery) -> RankedSlate:
        """Rank the candidates of one query, best first.

        The history is prefetched: the store read starts as soon as the user is known, before the rest of the
        body is decoded.

        Raises:
            NotJson, Invalid: the body; too many candidates; a moment long ago; weights or objectives that the
                bundle lacks.
            Overloaded: there is no capacity for so many candidates.
            NotReady: no bundle is loaded.
            DeadlineExceeded: the slate would come too late.
        """
        serving, user_id = self._serving_set.get(), request.user_id
        history = None if user_id is None else Prefetch(self._store.history(user_id))
        try:
            ranked = await self._rank(request, serving, history)
        finally:
            if history is not None:
                history.close()
        for observe in self._observers:
            observe(ranked)
        return ranked

    async def _rank(
        self,
        request: RerankBody | RerankQuery,
        serving: ServingSet,
        history: Prefetch[History | None] | None,
    ) -> RankedSlate:
        trace, query = current_trace(), request.decode()
        if query.user_id != request.user_id:
            history = None  # it is another user's
        size, limit = len(query.candidates), self._settings.max_candidates
        if size > limit:
            detail = f"At most {limit} candidates (REELRANK_MAX_CANDIDATES), found {size}."
            raise Invalid(detail, loc="candidates")
        earliest_ms = self._settings.earliest_ms
        if query.timestamp_ms is not None and query.timestamp_ms < earliest_ms:
            raise Invalid(too_early(query.timestamp_ms, earliest_ms), loc="timestamp_ms")
        candidates, repeated = query.candidates.distinct()
        rules = query.rules
        if rules is not None and rules.pin:
            check_pins(rules.pin, set(candidates.video_id), query.top_k)
        with self._capacity.take(size, query.deadline - time.perf_counter(), trace.caller):
            candidates = self._catalogue.complete(candidates)
            if rules is not None and rules.fresh_boost is not None:
                candidates = self._catalogue.complete_published(candidates)
            assigned = serving.assignment(query.user_id)
            bundle = serving.for_user(query.user_id)
            trace.version = bundle.manifest.version
            shadow = serving.shadow
            if bundle.reads_features or (shadow is not None and shadow.bundle.reads_features):
                candidates = self._catalogue.complete_features(candidates)
            chosen = query.weights if query.weights is not None or assigned is None else assigned.arm.weights
            weights = fusion_weights(bundle.manifest, chosen)
            objectives = returned_objectives(bundle.manifest, query.objectives)
            trace.mark("parse")

            degraded: list[str] = []
            try:
                async with asyncio.timeout(max(0.0, query.deadline - time.perf_counter()) * STATE_SHARE):
                    state = await (history or self._store.history(query.user_id)) or EMPTY_HISTORY
            except (StoreUnavailable, TimeoutError):
                state, degraded = EMPTY_HISTORY, ["history"]
            trace.mark("state")
            if time.perf_counter() > query.deadline:
                raise DeadlineExceeded("The deadline had passed before anything was ranked.")

            now_ms = int(time.time() * 1000) if query.timestamp_ms is None else query.timestamp_ms
            context = RankingContext(
                candidates, state.exposures, state.profile, query.tab, now_ms, state.imported
            )
            inline = len(candidates) <= self._settings.inline_candidates
            if bundle.on_gpu:
                inputs = ranker_inputs(bundle, context)
                names = ranker_outputs(bundle, weights, explain=query.explain)
                outputs = await self._batcher.run(bundle, inputs, names)
                slate = ordered_slate(bundle, inputs, outputs, weights)
            else:
                # A thread hop costs about 0.1 ms and lengthens the tail, so short work is not worth one.
                compute = partial(rank, bundle, context, weights, explain=query.explain)
                slate = compute() if inline else await self._offload(compute)
            arrangement, explore = None, self._explore if query.explore is None else query.explore
            if rules is not None or explore:
                order = partial(
                    arrange,
                    slate,
                    context,
                    rules,
                    explore or None,
                    seed=f"{query.user_id}\n{query.request_id or trace.request_id}",
                    length=query.top_k,
                    has_history="history" not in degraded,
                )
                arrangement = order() if inline else await self._offload(order)
            trace.mark("inference")
            if time.perf_counter() > query.deadline:
                raise DeadlineExceeded("The slate was ranked after its deadline.")
            if not slate.nonfinite:
                self._sampler.add_slate(slate.inputs)
            return RankedSlate(
                query,
                bundle,
                serving.shadow,
                context,
                slate,
                objectives,
                degraded,
                repeated,
                weights,
                arrangement,
                assigned,
            )
