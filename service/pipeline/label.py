"""From read events to outcomes: admit, write, label. A JSON body and a batch of an NDJSON stream alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from models.runtime import Bundle
from models.schema import FeedbackEvent, Profile
from service.inference import compute
from service.inference.serving_set import Serving
from service.pipeline.labels import label, needs_profiles
from service.pipeline.shadow import offer_labels
from service.pipeline.validation import Admitted, admit, late
from service.services import Services
from service.state.protocol import Outcome, UserState
from service.telemetry.trace import Trace
from service.wire import Label, Rejected

CONCURRENT_USERS: Final = 32
"""Users of one body read at the same time. More would only wait in the client's connections."""

Held = tuple[int, FeedbackEvent, bool]
"""Position in the body, exposure as the store holds it now, and whether it was a duplicate."""


@dataclass(slots=True)
class Ingested:
    """What became of a body's events. Each list is in the order of the body."""

    labels: list[tuple[int, Label]] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    accepted: int = 0
    duplicates: int = 0
    merged: int = 0
    versions: set[str] = field(default_factory=set)
    """That labelled."""

    def version(self, serving: Serving) -> str:
        """The one that labelled; the current one if there is not one."""
        return next(iter(self.versions)) if len(self.versions) == 1 else serving.current.manifest.version


async def ingest(
    services: Services,
    serving: Serving,
    events: Sequence[FeedbackEvent | Rejected],
    names: Sequence[str],
    *,
    store: bool,
    trace: Trace,
    first: int = 0,
) -> Ingested:
    """Write what is admitted, then label the exposures as they are held now.

    The write comes first: a label that was answered is of an event that is stored.

    Raises:
        StoreUnavailable: some of the events may have been written and none is acknowledged; sending all of
            them again is safe.
    """
    settings = services.settings
    trace.version = serving.current.manifest.version
    admitted = admit(
        events, services.catalogue, now_ms=int(time.time() * 1000), late_s=settings.late_s, first=first
    )
    out = Ingested(rejected=admitted.rejected)
    if store:
        outcomes = await _record(services, admitted)
    else:
        outcomes = [(index, Outcome("accepted", event)) for index, event in admitted.stored]
    trace.mark("state")
    held = _sorted_out(outcomes, admitted, out, settings.late_s)
    if serving.split is None:
        await _label(services, serving, serving.current, held, names, out)
    else:
        for bundle, mine in _by_bundle(serving, held):
            await _label(services, serving, bundle, mine, names, out)
        out.labels.sort(key=lambda item: item[0])
    trace.mark("inference")
    _count(services, out)
    return out


async def _label(
    services: Services,
    serving: Serving,
    bundle: Bundle,
    held: Sequence[Held],
    names: Sequence[str],
    out: Ingested,
) -> None:
    """Add the labels of these exposures by this bundle."""
    if not held:
        return
    exposures = [event for _, event, _ in held]
    profiles: dict[str, Profile] = {}
    if needs_profiles(bundle, names):
        profiles = await _profiles(services, {event.user_id for event in exposures})
    inline = len(held) <= services.settings.inline_events
    labels = await compute.run(inline, label, bundle, exposures, names, profiles, services.recorded)
    metrics, version = services.metrics, bundle.manifest.version
    for name in labels.nonfinite:
        metrics.nonfinite.labels(name).inc()
    metrics.drift.labelled(version, labels.feedback, labels.by_name)
    metrics.bundles.answers.labels("label", version).inc(len(held))
    if serving.shadow is not None:
        offer_labels(services, serving.shadow, bundle, labels, exposures, profiles)
    columns = [labels.by_name[name] for name in names]
    named = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    own = msgspec.UNSET if bundle is serving.current else version
    out.labels += [
        (index, Label(event.event_id, event.user_id, event.video_id, first, of_event, duplicate, own))
        for (index, event, duplicate), first, of_event in zip(held, columns[0], named, strict=True)
    ]
    out.versions.add(version)


def _by_bundle(serving: Serving, held: Sequence[Held]) -> list[tuple[Bundle, list[Held]]]:
    """The exposures by the bundle that answers their users."""
    of_user = {user_id: serving.of_user(user_id) for user_id in {event.user_id for _, event, _ in held}}
    groups: dict[str, tuple[Bundle, list[Held]]] = {}
    for item in held:
        bundle = of_user[item[1].user_id]
        groups.setdefault(bundle.manifest.version, (bundle, []))[1].append(item)
    return list(groups.values())


async def _record(services: Services, admitted: Admitted) -> list[tuple[int, Outcome]]:
    outcomes = await services.store.record_many([event for _, event in admitted.stored])
    return [(index, outcome) for (index, _), outcome in zip(admitted.stored, outcomes, strict=True)]


async def _profiles(services: Services, users: set[str]) -> dict[str, Profile]:
    """Profile features of those users who have any."""
    places = asyncio.Semaphore(CONCURRENT_USERS)

    async def read(user_id: str) -> UserState | None:
        async with places:
            return await services.store.read(user_id)

    ids = sorted(users)
    states = await asyncio.gather(*map(read, ids))
    return {user_id: state.profile for user_id, state in zip(ids, states, strict=True) if state is not None}


def _sorted_out(
    outcomes: Sequence[tuple[int, Outcome]], admitted: Admitted, out: Ingested, late_s: float
) -> list[Held]:
    """Count outcomes; returns position, exposure and whether it is a duplicate, of all that get a label."""
    held: list[Held] = []
    for index, outcome in outcomes:
        match outcome.kind:
            case "conflict":
                out.rejected.append(
                    Rejected(
                        index=index,
                        code="conflict",
                        detail=outcome.detail or "This event_id is another exposure's.",
                        event_id=outcome.event.event_id,
                        loc="event_id",
                    )
                )
                continue
            case "accepted":
                out.accepted += 1
            case "duplicate":
                out.duplicates += 1
            case "merged":
                out.merged += 1
        held.append((index, outcome.event, outcome.kind == "duplicate"))
    for index, event in admitted.late:
        out.rejected.append(late(index, event, late_s))
        held.append((index, event, False))
    held.sort(key=lambda item: item[0])
    out.rejected.sort(key=lambda r: r.index)
    return held


def _count(services: Services, out: Ingested) -> None:
    events = services.metrics.events
    for outcome, count in (
        ("accepted", out.accepted),
        ("duplicate", out.duplicates),
        ("merged", out.merged),
    ):
        if count:
            events.labels(outcome).inc(count)
    for rejected in out.rejected:
        events.labels(rejected.code).inc()
