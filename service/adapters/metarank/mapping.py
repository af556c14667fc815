"""Metarank's events, items and fields as ours; README.md has the same as tables."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from models.errors import Invalid, UnknownModel
from models.manifest import Manifest
from models.schema import FLAGS, Candidate, FeedbackEvent, Profile, Video, checked_id
from models.signals import NO_SIGNALS, Signals
from service.adapters.metarank.docs import DEFAULT
from service.adapters.metarank.wire import (
    Field,
    InteractionEvent,
    ItemEvent,
    RankedScore,
    RankRequest,
    UserEvent,
)
from service.pipeline.decoding import convert
from service.pipeline.rerank_reply import Items
from service.wire import RerankRequest, UserProfile

TYPES: Final[Mapping[str, str]] = {
    **{flag: flag for flag in FLAGS},
    "subscribe": "follow",
    "share": "forward",
    "repost": "forward",
    "dislike": "hate",
    "report": "hate",
    "not_interested": "hate",
    "profile": "profile_enter",
}
"""The flag that a type of interaction sets. Of every other type only the fields count."""

SECONDS: Final[Mapping[str, tuple[str, float]]] = {
    "watch_time_s": ("watch_time_s", 1.0),
    "watch_time": ("watch_time_s", 1.0),
    "watch_time_ms": ("watch_time_s", 1000.0),
    "watch_ms": ("watch_time_s", 1000.0),
    "duration_s": ("duration_s", 1.0),
    "duration": ("duration_s", 1.0),
    "duration_ms": ("duration_s", 1000.0),
}
"""Fields that hold a time: their member, and how many of their units are a second."""

IDS: Final[Mapping[str, str]] = {
    "author_id": "author_id",
    "author": "author_id",
    "tag": "tag",
    "category": "tag",
    "tab": "tab",
    "device": "device",
}
"""Fields that hold an id: their member. Of a list the first counts."""


MAX_NUMBER: Final = sys.float_info.max
"""An integer of JSON may be larger than any float."""

CATALOGUE: Final = ("duration_s", "author_id", "tag")
"""Members of a catalogue entry, and of a candidate."""


def to_video(event: ItemEvent, manifest: Manifest) -> Video | None:
    """Return the catalogue entry of an item event; `None` if no field is a member of it, or a feature that
    the bundle declares.

    Raises:
        Invalid: a field's value breaks the rule of its member.
    """
    members = _members(event.fields, CATALOGUE)
    declared = manifest.video_features
    features = _declared(event.fields, declared.names)
    if (fault := declared.fault(features)) is not None:
        raise Invalid(fault.detail, loc=f"fields.{fault.name}")
    if features:
        members["features"] = features
    return convert({"video_id": event.item, **members}, Video) if members else None


def to_profile(event: UserEvent, manifest: Manifest) -> Profile:
    """Return the features of a user event that the bundle declares.

    Raises:
        Invalid: a numeric feature is not a number.
    """
    profile: Profile = {}
    for field in event.fields:
        value = field.value
        if field.name in manifest.profile_numbers:
            profile[field.name] = _number(field)
        elif field.name in manifest.profile_categories and isinstance(value, str | int | float):
            profile[field.name] = str(value).lower() if isinstance(value, bool) else value
    return convert({"user_id": event.user, "profile": profile}, UserProfile).profile or {}


def to_exposure(
    event: InteractionEvent, ranked_for: str | None, signals: Signals = NO_SIGNALS
) -> FeedbackEvent | None:
    """Return what an interaction adds to the exposure it belongs to.

    `None` if it has neither a watch time nor feedback: such an exposure would read as a skipped video.

    Args:
        event: the interaction.
        ranked_for: user of its ranking, if that is in the same body.
        signals: own ones that the bundle declares: by the type, or by a field.

    Raises:
        Invalid: the user is unknown, or a field's value breaks the rule of its member.
    """
    user_id = event.user or ranked_for or event.session
    if user_id is None:
        detail = "The interaction names no `user` and no `session`, and its ranking is not in this body."
        raise Invalid(detail, loc="user")
    members = _members(event.fields, ("watch_time_s", "duration_s", *IDS.values()))
    members |= {f.name: True for f in event.fields if f.name in FLAGS and f.value is True}
    kind = event.type.lower()
    own = _declared(event.fields, signals.names) | ({kind: True} if kind in signals.flags else {})
    if own:
        members["signals"] = own
    if kind in TYPES and kind not in signals.flags:
        members[TYPES[kind]] = True
    if "watch_time_s" not in members and members.keys().isdisjoint((*FLAGS, "signals")):
        return None
    exposure = {
        "event_id": _exposure_id(event, user_id),
        "user_id": user_id,
        "video_id": event.item,
        "timestamp_ms": event.timestamp,
        "watch_time_s": 0.0,
        "session_id": event.session,
        "request_id": event.ranking,
    }
    return convert(exposure | members, FeedbackEvent)


def _exposure_id(event: InteractionEvent, user_id: str) -> str:
    """Return one id for all that a user did with an item of a ranking, so that a watch and a like merge.

    Without a ranking the session stands for it; without both, every interaction is an exposure of its own.
    """
    match event:
        case InteractionEvent(ranking=str(ranking)):
            parts = ("ranking", ranking, user_id, event.item)
        case InteractionEvent(session=str(session)):
            parts = ("session", session, user_id, event.item)
        case _:
            parts = ("event", event.id or f"{event.type}\0{event.timestamp}", user_id, event.item)
    digest = blake2b(digest_size=16)
    for part in parts:
        raw = part.encode()
        digest.update(len(raw).to_bytes(4) + raw)  # with lengths: different parts never join to one text
    return f"mr-{digest.hexdigest()}"


def to_weights(model: str, manifest: Manifest) -> dict[str, float] | None:
    """Return the weights of a model; `None` are the bundle's own.

    Raises:
        UnknownModel: neither `default` nor an objective.
    """
    if model == DEFAULT:
        return None
    if model in manifest.objectives:
        return {model: 1.0}
    known = ", ".join((DEFAULT, *manifest.objectives))
    raise UnknownModel(f"There is no model {model[:64]!r}; the models are {known}.")


def to_rerank_request(
    request: RankRequest, weights: dict[str, float] | None, *, anonymous: str
) -> RerankRequest:
    """Return the request of POST /rerank; `anonymous` is the id of a visitor without user and session.

    Raises:
        Invalid: a field's value breaks the rule of its member.
    """
    candidates = []
    for index, item in enumerate(request.items):
        try:
            members = {"video_id": item.id, **_members(item.fields, CATALOGUE)}
            candidates.append(convert(members, Candidate))
        except Invalid as e:
            raise Invalid(str(e), loc=f"items[{index}].{e.loc}") from None
    return RerankRequest(
        user_id=request.user or request.session or anonymous,
        candidates=candidates,
        request_id=request.id,
        timestamp_ms=request.timestamp,
        weights=weights,
        tab=_tab(request.fields),
    )


def _tab(fields: Sequence[Field]) -> str | None:
    tab = _members(fields, ("tab",)).get("tab")
    if tab is None:
        return None
    if isinstance(tab, bool) or not isinstance(tab, str | int):
        raise Invalid("Field 'tab' is an id.", loc="fields.tab")
    try:
        return checked_id(tab, "tab")
    except ValueError as e:
        raise Invalid(f"{e}.", loc="fields.tab") from None


def to_ranked_scores(items: Items, *, features: bool) -> list[RankedScore]:
    """Return the items of a slate, with what their scores are made of as `features` if they are wanted."""
    values = items.values()
    if not features:
        return list(map(RankedScore, items.video_id, values["score"]))
    scores = []
    for index, (video_id, score) in enumerate(zip(items.video_id, values.pop("score"), strict=True)):
        parts = {name: column[index] for name, column in values.items()}
        if items.explanations is not None:
            explanation = items.explanations[index]
            parts |= {f"watch_time_s_{name}": s for name, s in explanation.watch_time_s.items()}
            parts |= {f"part_{name}": part for name, part in explanation.parts.items()}
        scores.append(RankedScore(video_id, score, [Field(name, value) for name, value in parts.items()]))
    return scores


def _members(fields: Sequence[Field], names: Sequence[str]) -> dict[str, Any]:
    """Return the members of those names that the fields hold."""
    members: dict[str, Any] = {}
    for field in fields:
        value = field.value
        if field.name in SECONDS:
            member, unit = SECONDS[field.name]
            value = _number(field) / unit
        elif field.name in IDS:
            member = IDS[field.name]
            value = value[0] if isinstance(value, list) and value else value
            if isinstance(value, float) and value.is_integer():  # many writers know one kind of number
                value = int(value)
        else:
            continue
        if member in names and value not in (None, "", []):
            members[member] = value
    return members


def _declared(fields: Sequence[Field], names: Sequence[str]) -> dict[str, Any]:
    return {field.name: field.value for field in fields if field.name in names and field.value is not None}


def _number(field: Field) -> float:
    """Return the value of a field as a finite number."""
    value, loc = field.value, f"fields.{field.name}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Invalid(f"Field {field.name!r} is a number.", loc=loc)
    if not abs(value) < MAX_NUMBER:  # so written, NaN is refused too
        raise Invalid(f"Field {field.name!r} must be finite.", loc=loc)
    return float(value)
