"""Metarank's events, requests and replies. Members that this service does not use are let through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from models.schema import Id, checked_id
from service.wire import Rejected, milliseconds

if TYPE_CHECKING:
    Moment = int
else:
    Moment = int | float | str  # what the wire may hold; `__post_init__` makes Unix milliseconds of it


def _normalize(struct: _Event | RankRequest) -> None:
    """Make a moment Unix milliseconds and ids strings."""
    msgspec.structs.force_setattr(struct, "timestamp", milliseconds(struct.timestamp))
    for member in ("id", "user", "session", "item", "ranking"):
        if (value := getattr(struct, member, None)) is not None:
            msgspec.structs.force_setattr(struct, member, checked_id(value, member))


class Field(msgspec.Struct, frozen=True):
    """A named value of an event, an item or a request."""

    name: str
    value: Any


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    timestamp: Moment
    """Unix milliseconds as a number or a string, or ISO 8601; without a zone it is UTC."""
    id: Id | None = None
    fields: list[Field] = []

    def __post_init__(self) -> None:
        _normalize(self)


class ItemEvent(_Event, frozen=True, kw_only=True, tag="item"):
    """Features of an item; they go to the catalogue."""

    item: Id


class UserEvent(_Event, frozen=True, kw_only=True, tag="user"):
    """Features of a user; they go to the profile."""

    user: Id


class RankedItem(msgspec.Struct, frozen=True, kw_only=True):
    """An item of a ranking."""

    id: Id
    fields: list[Field] = []

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "id", checked_id(self.id, "id"))


class RankingEvent(_Event, frozen=True, kw_only=True, tag="ranking"):
    """A slate that was shown; it names the user of later interactions."""

    id: Id
    items: list[RankedItem]
    user: Id | None = None
    session: Id | None = None


class InteractionEvent(_Event, frozen=True, kw_only=True, tag="interaction"):
    """Feedback of a user on an item."""

    item: Id
    type: str
    ranking: Id | None = None
    user: Id | None = None
    session: Id | None = None


Event = ItemEvent | UserEvent | RankingEvent | InteractionEvent


class RankRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Body of POST /rank/{model}: a ranking event that has not happened yet."""

    items: Annotated[list[RankedItem], msgspec.Meta(extra_json_schema={"minItems": 1})]
    timestamp: Moment
    id: Id | None = None
    user: Id | None = None
    session: Id | None = None
    fields: list[Field] = []

    def __post_init__(self) -> None:
        _normalize(self)
        if not self.items:
            raise ValueError("`items` must name at least one item")


class FeedbackReply(msgspec.Struct, frozen=True):
    """Metarank's four members, and two of ours."""

    status: str
    """`ok`, or `partial` when some events were rejected."""
    accepted: int
    """Events that were processed; with `rejected` it is the number of events."""
    updated: int
    """Exposures, catalogue entries and profiles that changed."""
    tookMillis: int  # noqa: N815  # Metarank's name
    ignored: int
    """Accepted events that change nothing."""
    rejected: list[Rejected]


class RankedScore(msgspec.Struct, frozen=True, omit_defaults=True):
    """One item of the answer."""

    item: str
    score: float
    features: list[Field] | None = None
    """With `explain=true`."""


class RankReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The items, best first."""

    took: int
    """Milliseconds."""
    items: list[RankedScore]
    degraded: list[str] = []
    """As in POST /rerank; left out when nothing is."""
