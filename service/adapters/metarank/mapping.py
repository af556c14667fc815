"""Metarank's events in our words. README.md has the same as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

from models.errors import Invalid
from models.manifest import Manifest
from models.schema import FLAGS, Candidate, FeedbackEvent, Profile, checked_id
from service.adapters.metarank.wire import Field, InteractionEvent, ItemEvent, RankedItem, UserEvent
from service.pipeline.decoding import convert
from service.wire import UserProfile

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
"""The flag that a type of interaction sets. Every other type means what its fields say."""

SECONDS: Final[Mapping[str, tuple[str, float]]] = {
    "watch_time_s": ("watch_time_s", 1.0),
    "watch_time": ("watch_time_s", 1.0),
    "watch_time_ms": ("watch_time_s", 1000.0),
    "watch_ms": ("watch_time_s", 1000.0),
    "duration_s": ("duration_s", 1.0),
    "duration": ("duration_s", 1.0),
    "duration_ms": ("duration_s", 1000.0),
}
"""Fields that hold a time: the member they are, and how many of their units are a second."""

IDS: Final[Mapping[str, str]] = {
    "author_id": "author_id",
    "author": "author_id",
    "tag": "tag",
    "category": "tag",
    "tab": "tab",
    "device": "device",
}
"""Fields that hold an id: the member they are. Of a list the first counts."""


def candidate(item: RankedItem) -> Candidate:
    """An item of a ranking.

    Raises:
        Invalid: a field's value breaks the rule of its member.
    """
    members = _members(item.fields, ("duration_s", "author_id", "tag"))
    return convert({"video_id": item.id, **members}, Candidate)


def video(event: ItemEvent) -> Candidate | None:
    """The catalogue's members of an item event; `None` if it has none of them.

    Raises:
        Invalid: a field's value breaks the rule of its member.
    """
    members = _members(event.fields, ("duration_s", "author_id", "tag"))
    return convert({"video_id": event.item, **members}, Candidate) if members else None


def profile(event: UserEvent, manifest: Manifest) -> Profile:
    """The profile features of a user event that the bundle declares; the others are left out.

    Raises:
        Invalid: a numeric feature is none.
    """
    found: dict[str, Any] = {}
    for field in event.fields:
        value = field.value
        if field.name in manifest.profile_numbers:
            if not isinstance(value, int | float):
                raise Invalid(f"Profile feature {field.name!r} is a number.", loc=f"fields.{field.name}")
            found[field.name] = _finite(float(value), field.name)
        elif field.name in manifest.profile_categories and isinstance(value, str | int | float):
            found[field.name] = str(value).lower() if isinstance(value, bool) else value
    return convert({"user_id": event.user, "profile": found}, UserProfile).profile


def exposure(event: InteractionEvent, user_id: str) -> FeedbackEvent | None:
    """What an interaction adds to the exposure it belongs to; `None` if that is nothing: an exposure without
    watch time and without a flag would read as a skipped video, which nobody said.

    Args:
        event: the interaction.
        user_id: whose it is.

    Raises:
        Invalid: a field's value breaks the rule of its member.
    """
    members = _members(event.fields, ("watch_time_s", "duration_s", *IDS.values()))
    members |= {f.name: True for f in event.fields if f.name in FLAGS and f.value is True}
    if flag := TYPES.get(event.type.lower()):
        members[flag] = True
    if "watch_time_s" not in members and members.keys().isdisjoint(FLAGS):
        return None
    whole = {
        "event_id": exposure_id(event, user_id),
        "user_id": user_id,
        "video_id": event.item,
        "timestamp_ms": event.timestamp,
        "watch_time_s": 0.0,
        "session_id": event.session,
    }
    return convert(whole | members, FeedbackEvent)


def exposure_id(event: InteractionEvent, user_id: str) -> str:
    """The same for all that one user did with one item of one ranking, so that it merges: a watch, then a
    like. Without a ranking the session stands for it; with neither, every interaction is one of its own."""
    match event:
        case InteractionEvent(ranking=str(ranking)):
            whole = ("ranking", ranking, user_id, event.item)
        case InteractionEvent(session=str(session)):
            whole = ("session", session, user_id, event.item)
        case _:
            moment = event.id or f"{event.type}\0{event.timestamp}"
            whole = ("event", moment, user_id, event.item)
    digest = blake2b(digest_size=16)
    for part in whole:
        raw = part.encode()
        digest.update(len(raw).to_bytes(4) + raw)  # with lengths: no two wholes run together alike
    return f"mr-{digest.hexdigest()}"


def tab(fields: Sequence[Field]) -> str | None:
    """Where a ranking is shown, if a field says so.

    Raises:
        Invalid: the field holds no id.
    """
    value = _members(fields, ("tab",)).get("tab")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Invalid("Field 'tab' is an id.", loc="fields.tab")
    try:
        return checked_id(value, "tab")
    except ValueError as e:
        raise Invalid(f"{e}.", loc="fields.tab") from None


def _members(fields: Sequence[Field], wanted: Sequence[str]) -> dict[str, Any]:
    """Members by our names; what the fields hold besides is left out."""
    members: dict[str, Any] = {}
    for field in fields:
        value = field.value
        if field.name in SECONDS:
            member, unit = SECONDS[field.name]
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise Invalid(f"Field {field.name!r} is a number.", loc=f"fields.{field.name}")
            value = _finite(float(value), field.name) / unit
        elif field.name in IDS:
            member = IDS[field.name]
            value = value[0] if isinstance(value, list) and value else value
            if isinstance(value, float) and value.is_integer():  # many writers know one kind of number
                value = int(value)
        else:
            continue
        if member in wanted and value not in (None, "", []):
            members[member] = value
    return members


def _finite(value: float, name: str) -> float:
    if not abs(value) < float("inf"):  # so written, NaN is refused too
        raise Invalid(f"Field {name!r} must be finite.", loc=f"fields.{name}")
    return value
