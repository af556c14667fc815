"""POST /feedback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from models.errors import Invalid, NothingAccepted
from models.manifest import Manifest
from models.schema import FeedbackEvent, Profile, Video
from service.adapters.metarank import docs, mapping
from service.adapters.metarank.events import Read, checked_type, read_body
from service.adapters.metarank.wire import FeedbackReply, InteractionEvent, ItemEvent, RankingEvent, UserEvent
from service.http.request import JSON
from service.pipeline.fan_out import for_each_user
from service.pipeline.label_query import LabelQuery, LabelTarget
from service.services import Services, services_of
from service.telemetry.trace import current_trace
from service.wire import Rejected

router = APIRouter(tags=["metarank"])

_encode: Final = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Sorted:
    """A body's events by what they change."""

    videos: list[Video] = field(default_factory=list)
    profiles: dict[str, Profile] = field(default_factory=dict)
    exposures: list[tuple[int, FeedbackEvent]] = field(default_factory=list)
    """With their positions in the body."""
    ignored: int = 0
    rejected: list[Rejected] = field(default_factory=list)


@router.post("/feedback", openapi_extra=docs.FEEDBACK)
async def post_feedback(request: Request) -> Response:
    """Metarank's events: `item` to the catalogue, `user` to the profile, `interaction` to the exposure it
    belongs to, `ranking` to know whose later interactions are. One event, an array, or a stream of them.

    Each event has an outcome of its own. When this has answered, everything accepted is stored.
    """
    services, trace = services_of(request), current_trace()
    services.keys.check(request.headers.get("authorization"), "label")
    target = services.label.target([])
    checked_type(request)
    body = await services.reader.body(request)
    events = read_body(body, services.settings.max_events)
    todo = sort_out(events, target.serving.active.manifest)
    trace.mark("parse")
    with services.admission.events.take(len(events)):
        async with services.reader.time_limit(request):
            updated, rejected = await _keep(services, target, todo)
    rejected.sort(key=lambda r: r.index)
    if rejected and len(rejected) == len(events):
        raise NothingAccepted(rejected)
    reply = FeedbackReply(
        status="partial" if rejected else "ok",
        accepted=len(events) - len(rejected),
        updated=updated,
        tookMillis=round(trace.took_ms()),
        ignored=todo.ignored,
        rejected=rejected,
    )
    return Response(_encode(reply), media_type=JSON)


def sort_out(events: Sequence[Read], manifest: Manifest) -> Sorted:
    """What each event of a body changes."""
    out = Sorted()
    users = {e.id: e.user or e.session for e in events if isinstance(e, RankingEvent)}
    for index, event in enumerate(events):
        if isinstance(event, Rejected):
            out.rejected.append(event)
            continue
        try:
            match event:
                case ItemEvent():
                    if (video := mapping.video(event)) is not None:
                        out.videos.append(video)
                    else:
                        out.ignored += 1
                case UserEvent():
                    if found := mapping.profile(event, manifest):
                        out.profiles.setdefault(event.user, {}).update(found)
                    else:
                        out.ignored += 1
                case RankingEvent():
                    out.ignored += 1
                case InteractionEvent():
                    _sort_interaction(index, event, users.get(event.ranking or ""), out)
        except Invalid as e:
            out.rejected.append(
                Rejected(index=index, code="invalid", detail=str(e), event_id=event.id, loc=e.loc)
            )
    return out


def _sort_interaction(index: int, event: InteractionEvent, shown_to: str | None, out: Sorted) -> None:
    user_id = event.user or shown_to or event.session
    if user_id is None:
        detail = "The interaction names no `user` and no `session`, and its ranking is not in this body."
        out.rejected.append(
            Rejected(index=index, code="invalid", detail=detail, event_id=event.id, loc="user")
        )
    elif (exposure := mapping.exposure(event, user_id)) is not None:
        out.exposures.append((index, exposure))
    else:
        out.ignored += 1


async def _keep(services: Services, target: LabelTarget, todo: Sorted) -> tuple[int, list[Rejected]]:
    """Write what is new -> how much of it was, and what was rejected of the whole body."""
    # Videos first: an interaction of the same body may need the duration.
    updated = await _put_videos(services, todo.videos) + await _put_profiles(services, todo.profiles)
    current_trace().mark("state")
    rejected = todo.rejected
    if todo.exposures:
        labelled = await services.label.run(LabelQuery([event for _, event in todo.exposures], target))
        updated += labelled.counts["accepted"] + labelled.counts["merged"]
        at = [index for index, _ in todo.exposures]
        rejected += [msgspec.structs.replace(r, index=at[r.index]) for r in labelled.rejected]
    return updated, rejected


async def _put_videos(services: Services, videos: Sequence[Video]) -> int:
    """Add to what the catalogue knows of each: an item event names what is new, not all there is."""
    if not videos:
        return 0
    known: dict[str, Video] = {}
    for video in videos:
        before = known.get(video.video_id) or services.catalogue.video(video.video_id)
        known[video.video_id] = Video(
            video_id=video.video_id,
            duration_s=before.duration_s if video.duration_s is None else video.duration_s,
            author_id=before.author_id if video.author_id is None else video.author_id,
            tag=before.tag if video.tag is None else video.tag,
        )
    await services.store.put_videos(list(known.values()))
    await services.catalogue.follow(services.store)
    services.metrics.videos.set(len(services.catalogue))
    return len(known)


async def _put_profiles(services: Services, profiles: dict[str, Profile]) -> int:
    """The same for users. Of two bodies on one user at one moment, one may not see the other's."""

    async def put(entry: tuple[str, Profile]) -> None:
        user_id, profile = entry
        state = await services.store.read(user_id)
        await services.store.put_profile(user_id, (state.profile if state else {}) | profile)

    await for_each_user(put, profiles.items())
    return len(profiles)
