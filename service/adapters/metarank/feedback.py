"""Bodies of POST /feedback: read event by event, sorted by what they change, and stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from models.errors import Invalid, NotJson
from models.manifest import Manifest
from models.schema import MAX_ID_BYTES, FeedbackEvent, Profile, Video
from service.adapters.metarank import mapping
from service.adapters.metarank.wire import Event, InteractionEvent, ItemEvent, RankingEvent, UserEvent
from service.pipeline.decoding import DECODER, check_count, convert, parse
from service.pipeline.fan_out import for_each_user
from service.pipeline.label_query import LabelQuery, LabelTarget
from service.services import Services
from service.telemetry.trace import current_trace
from service.wire import Rejected

_SEPARATORS: Final = " \t\r\n,"


@dataclass(slots=True)
class Changes:
    """The events of a body by what they change."""

    videos: list[Video] = field(default_factory=list)
    profiles: dict[str, Profile] = field(default_factory=dict)
    exposures: list[tuple[int, FeedbackEvent]] = field(default_factory=list)
    """With their positions in the body."""
    ignored: int = 0
    """Accepted events that change nothing."""
    rejected: list[Rejected] = field(default_factory=list)


def read_events(body: bytes, limit: int) -> list[Event | Rejected]:
    """Decode one event, an array of them, or any number of both in a row; invalid ones are rejected alone.

    Raises:
        NotJson: not JSON, or not UTF-8.
        Invalid: more than `limit` events, or more arrays and objects than they can have.
    """
    values: list[Any] = []
    for value in parse(body, _json_values):
        values += value if isinstance(value, list) else [value]
        check_count(values, limit, "events", "REELRANK_MAX_EVENTS")
    return [_decode(value, index) for index, value in enumerate(values)]


def _json_values(text: str) -> list[Any]:
    text = text.strip(_SEPARATORS)
    values: list[Any] = []
    position = 0
    try:
        while position < len(text):
            while text[position] in _SEPARATORS:
                position += 1
            value, position = DECODER.raw_decode(text, position)
            values.append(value)
    except ValueError as e:
        raise NotJson(f"Value {len(values) + 1} of the body is not JSON: {e}.") from None
    if not values:
        raise NotJson("The body is empty; an empty list of events is [].")
    return values


def _decode(value: Any, index: int) -> Event | Rejected:
    if not isinstance(value, dict):
        kind = "null" if value is None else type(value).__name__
        return Rejected(index=index, code="malformed", detail=f"An event is an object, found {kind}.")
    if value.get("event") == "metadata":  # what Metarank called items at first, and still reads
        value = value | {"event": "item"}
    try:
        event: Event = convert(value, Event)  # type: ignore[arg-type]  # a union is a type to msgspec
    except Invalid as e:
        event_id = value.get("id")
        return _invalid(index, e, event_id[:MAX_ID_BYTES] if isinstance(event_id, str) else None)
    return event


def _invalid(index: int, error: Invalid, event_id: str | None) -> Rejected:
    return Rejected(index=index, code="invalid", detail=str(error), event_id=event_id, loc=error.loc)


def sort_events(events: Sequence[Event | Rejected], manifest: Manifest) -> Changes:
    """Sort the events of a body by what they change."""
    changes = Changes()
    users = {e.id: e.user or e.session for e in events if isinstance(e, RankingEvent)}
    for index, event in enumerate(events):
        if isinstance(event, Rejected):
            changes.rejected.append(event)
            continue
        try:
            change: Video | Profile | FeedbackEvent | None = None
            match event:
                case ItemEvent():
                    if change := mapping.to_video(event, manifest):
                        changes.videos.append(change)
                case UserEvent():
                    if change := mapping.to_profile(event, manifest):
                        changes.profiles.setdefault(event.user, {}).update(change)
                case InteractionEvent():
                    user = users.get(event.ranking or "")
                    if change := mapping.to_exposure(event, user, manifest.signals):
                        changes.exposures.append((index, change))
            changes.ignored += not change
        except Invalid as e:
            changes.rejected.append(_invalid(index, e, event.id))
    return changes


async def store_changes(services: Services, target: LabelTarget, changes: Changes) -> int:
    """Write the changes and return their number; events that cannot be stored join `changes.rejected`."""
    # Videos first: an interaction of the same body may need the duration.
    updated = await _put_videos(services, changes.videos) + await _put_profiles(services, changes.profiles)
    current_trace().mark("state")
    if changes.exposures:
        indices = [index for index, _ in changes.exposures]
        labelled = await services.label.run(LabelQuery([event for _, event in changes.exposures], target))
        updated += labelled.counts["accepted"] + labelled.counts["merged"]
        changes.rejected += [msgspec.structs.replace(r, index=indices[r.index]) for r in labelled.rejected]
    return updated


async def _put_videos(services: Services, videos: Sequence[Video]) -> int:
    """Add to what the catalogue knows of each video: an item event may name only what is new."""
    if not videos:
        return 0
    merged: dict[str, Video] = {}
    for video in videos:
        known = merged.get(video.video_id) or services.catalogue.video(video.video_id)
        members = msgspec.structs.asdict(video)
        new = {name: value for name, value in members.items() if value is not None}
        if video.features and known.features:
            new["features"] = known.features | video.features
        merged[video.video_id] = msgspec.structs.replace(known, **new)
    await services.store.put_videos(list(merged.values()))
    await services.catalogue.follow(services.store)
    services.metrics.videos.set(len(services.catalogue))
    return len(merged)


async def _put_profiles(services: Services, profiles: dict[str, Profile]) -> int:
    """Add to the profiles. Of two simultaneous bodies on one user, one may not see the other's features."""

    async def update(entry: tuple[str, Profile]) -> None:
        user_id, profile = entry
        state = await services.store.read(user_id)
        await services.store.put_profile(user_id, (state.profile if state else {}) | profile)

    await for_each_user(update, profiles.items())
    return len(profiles)
