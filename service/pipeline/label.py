"""The pipeline of POST /label: events are validated, stored, then labelled. A JSON body, a batch of an NDJSON
stream and a batch of a Redis Stream alike."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from models.errors import Invalid
from models.runtime import Bundle
from models.schema import FeedbackEvent, Profile
from service.inference.serving_set import ServingSet
from service.pipeline.fan_out import for_each_user
from service.pipeline.label_query import LabelQuery, LabelTarget
from service.pipeline.labelling import Labels, label
from service.pipeline.ports import Offload, Sampler, ServingSource, Turns, VideoLookup
from service.pipeline.validation import Exposure, apply_outcomes, validate_events
from service.settings import Settings
from service.state.protocol import Outcome, Store
from service.telemetry.trace import current_trace
from service.wire import Rejected

STEP: Final = 500
"""Events that are stored and labelled at a time: between its steps a large body lets others in."""


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """Exposures that one bundle has labelled."""

    bundle: Bundle
    exposures: Sequence[Exposure]
    profiles: dict[str, Profile]
    labels: Labels


@dataclass(frozen=True, slots=True)
class LabelledEvents:
    """What became of a query's events."""

    query: LabelQuery
    batches: list[LabelledBatch]
    rejected: list[Rejected]
    """In the order of the body; a late event has a label, too."""
    counts: Counter[str]
    """Events by outcome: accepted, duplicate, merged."""
    events: Sequence[FeedbackEvent] = ()
    """Valid events as they were sent and completed, of one step."""
    outcomes: Sequence[Outcome] = ()
    """What the store made of each of them."""


class LabelPipeline:
    """Stores and labels the events of a query.

    Args:
        store: sequences and profiles.
        catalogue: completes events.
        serving_set: the bundles that answer.
        settings: `earliest_ms`, `late_s` and `inline_events`.
        steps: capacity for the steps of large bodies.
        sampler: of events whose labels are all finite.
        offload: for large bodies.
        observers: called with every answer.
    """

    def __init__(
        self,
        store: Store,
        catalogue: VideoLookup,
        serving_set: ServingSource,
        settings: Settings,
        *,
        steps: Turns,
        sampler: Sampler,
        offload: Offload,
        observers: Sequence[Callable[[LabelledEvents], None]],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._serving_set = serving_set
        self._steps = steps
        self._sampler = sampler
        self._offload = offload
        self._observers = observers
        self._settings = settings

    def target(self, names: Sequence[str]) -> LabelTarget:
        """Take the serving set and check the labels, once for a request or stream.

        Raises:
            NotReady: no bundle is loaded.
            Invalid: the current bundle does not serve a label.
        """
        serving = self._serving_set.get()
        served = serving.active.manifest.labels
        for name in names:
            if name not in served:
                known = ", ".join(served)
                raise Invalid(f"`labels` names {name!r}; this bundle serves {known}.", loc="labels")
        return LabelTarget(serving, tuple(dict.fromkeys(names)) or served[:1])

    async def run(self, query: LabelQuery) -> LabelledEvents:
        """Store the events that are accepted, then label the exposures as the store has them now.

        The write comes first: a label that was answered is of an event that is stored. More events than
        `STEP` are taken in steps, each of which waits for its turn.

        Raises:
            StoreUnavailable: some of the events may have been written and none is acknowledged; sending all
                of them again is safe.
        """
        if len(query.events) <= STEP:
            return await self._run_step(query)
        whole = LabelledEvents(query, [], [], Counter())
        for start in range(0, len(query.events), STEP):
            events = query.events[start : start + STEP]
            with await self._steps.wait(len(events)):
                labelled = await self._run_step(replace(query, events=events, offset=query.offset + start))
            whole.batches.extend(labelled.batches)
            whole.rejected.extend(labelled.rejected)
            whole.counts.update(labelled.counts)
        return whole

    async def _run_step(self, query: LabelQuery) -> LabelledEvents:
        trace, serving = current_trace(), query.target.serving
        trace.version = serving.active.manifest.version
        complete = self._catalogue.complete_event
        validated = validate_events(
            [event if isinstance(event, Rejected) else complete(event) for event in query.events],
            now_ms=int(time.time() * 1000),
            earliest_ms=self._settings.earliest_ms,
            late_s=self._settings.late_s,
            signals=serving.signals,
            offset=query.offset,
        )
        events = [exposure.event for exposure in validated.accepted]
        if query.store:
            outcomes = await self._store.record_many(events)
        else:
            outcomes = [Outcome("accepted", event) for event in events]
        trace.mark("state")
        exposures, rejected, counts = apply_outcomes(validated, outcomes)
        batches: list[LabelledBatch] = []
        is_divided = serving.split or serving.experiments
        groups = _by_bundle(serving, exposures) if is_divided else [(serving.active, exposures)]
        for bundle, shown in groups:
            to_label, names = [exposure.event for exposure in shown], query.target.names
            profiles: dict[str, Profile] = {}
            if not set(names).isdisjoint(bundle.manifest.labels_by_user):
                profiles = await self._profiles(to_label)
            compute = partial(label, bundle, to_label, names, profiles)
            inline = len(to_label) <= self._settings.inline_events
            labels = compute() if inline else await self._offload(compute)
            if to_label and not labels.nonfinite:
                self._sampler.add_events(labels.feedback)
            batches.append(LabelledBatch(bundle, shown, profiles, labels))
        trace.mark("inference")
        labelled = LabelledEvents(query, batches, rejected, counts, events, outcomes)
        for observe in self._observers:
            observe(labelled)
        return labelled

    async def _profiles(self, events: Sequence[FeedbackEvent]) -> dict[str, Profile]:
        """Profile features of those users who have any."""
        users = sorted({event.user_id for event in events})
        states = zip(users, await for_each_user(self._store.read, users), strict=True)
        return {user_id: state.profile for user_id, state in states if state is not None}


def _by_bundle(serving: ServingSet, exposures: Sequence[Exposure]) -> list[tuple[Bundle, list[Exposure]]]:
    """Group the exposures by the bundle that answers their users."""
    users = {exposure.event.user_id for exposure in exposures}
    bundles = {user_id: serving.for_user(user_id) for user_id in users}
    groups: dict[str, tuple[Bundle, list[Exposure]]] = {}
    for exposure in exposures:
        bundle = bundles[exposure.event.user_id]
        groups.setdefault(bundle.manifest.version, (bundle, []))[1].append(exposure)
    return list(groups.values())
