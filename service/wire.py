"""Requests and replies as they are on the wire. Decoding them enforces what OpenAPI says of them."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from models.schema import (
    MAX_TIMESTAMP_MS,
    Candidate,
    FeedbackEvent,
    HistoryEntry,
    Id,
    Profile,
    TimestampMs,
    UnitInterval,
    checked_id,
)
from service.slate_rules import Applied, Explore, Rules

MAX_TEXT: Final = 1000
"""Characters of one text in a reply: a client never gets back more than it has sent."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def sendable(text: str) -> str:
    """Return text that fits into a reply: at most `MAX_TEXT` characters, and none that UTF-8 cannot hold.

    A message may quote a lone surrogate of the request, or megabytes of it.
    """
    if len(text) > MAX_TEXT:
        text = text[:MAX_TEXT] + "…"
    return text.encode("utf-8", "backslashreplace").decode()


def milliseconds(moment: float | str) -> int:
    """Return a timestamp in Unix milliseconds or ISO 8601, without a zone in UTC, as Unix milliseconds.

    Raises:
        ValueError: it is neither, or before 1970 or after the year 9999.
    """
    try:
        if isinstance(moment, str) and not (moment.isascii() and moment.lstrip("-").isdigit()):
            time = datetime.fromisoformat(moment)
            value = (time.replace(tzinfo=time.tzinfo or UTC) - _EPOCH).total_seconds() * 1000
        else:
            value = float(moment)
    except (ValueError, OverflowError):
        raise ValueError(
            f"`timestamp` must be Unix milliseconds or ISO 8601, found {str(moment)[:40]!r}"
        ) from None
    if not 0 <= value <= MAX_TIMESTAMP_MS:  # so written, NaN is refused too
        raise ValueError(f"`timestamp` must be 0 to {MAX_TIMESTAMP_MS}, found {value:g}")
    return round(value)


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """Reason why one event was not accepted. Its texts are sendable."""

    index: int
    """Position in the body, from 0."""
    event_id: str | None = None
    """If it could be read."""
    code: str
    """malformed, invalid, duration_unknown, clock_skew, late, conflict, unreadable."""
    detail: str
    loc: str = ""
    """The member that is wrong, if it is one."""

    def __post_init__(self) -> None:
        for member in ("detail", "loc", "event_id"):
            text = getattr(self, member)
            if text is not None and (clean := sendable(text)) != text:
                msgspec.structs.force_setattr(self, member, clean)


class Events(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Several exposures."""

    events: list[FeedbackEvent]


class Label(msgspec.Struct, frozen=True, gc=False):
    """The labels of one exposure."""

    event_id: str
    user_id: str
    video_id: str
    label: float
    """The first of the labels asked for."""
    labels: dict[str, float]
    percentile: UnitInterval | msgspec.UnsetType = msgspec.UNSET
    """Of `label`: the share of training rows whose label is lower, those with the same label counted half."""
    percentiles: dict[str, UnitInterval] | msgspec.UnsetType = msgspec.UNSET
    """Of `labels`. Both are left out by bundles that were exported without them."""
    duplicate: bool = False
    """The same event was accepted before; this is the answer of then."""
    model_version: str | msgspec.UnsetType = msgspec.UNSET
    """Only where a split has it labelled by another version than the current one."""


class LabelReply(msgspec.Struct, frozen=True):
    """`accepted + duplicates + merged + rejected` is the number of events; late ones have a label too.
    `model_version` labelled every event, but those whose label names another."""

    status: str
    accepted: int
    duplicates: int
    merged: int
    rejected: list[Rejected]
    labels: list[Label]
    model_version: str
    took_ms: float


class StreamSummary(msgspec.Struct, frozen=True):
    """Last line of an NDJSON answer: the stream is complete, unless `status` is `shutting_down`."""

    status: str
    accepted: int
    duplicates: int
    merged: int
    rejected: int
    model_version: str
    took_ms: float


class RerankRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A slate to be ordered for one user."""

    user_id: Id
    candidates: Annotated[list[Candidate], msgspec.Meta(extra_json_schema={"minItems": 1})]
    request_id: Id | None = None
    timestamp_ms: TimestampMs | None = None
    """The moment of the ranking; now, if left out."""
    top_k: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1})] | None = None
    weights: dict[str, float] | None = None
    objectives: list[str] | None = None
    """The bundle's objectives that an item has; all of them, if left out. Their weights stay as they are."""
    tab: Id | None = None
    """Where the slate is shown; the bundle's default, if left out."""
    rules: Rules | None = None
    explore: Explore | None = None
    """The service's default (`REELRANK_EXPLORE`), if left out; `{}` is no exploration."""

    def __post_init__(self) -> None:
        for member in ("user_id", "request_id", "tab"):
            value = getattr(self, member)
            if value is not None:
                msgspec.structs.force_setattr(self, member, checked_id(value, member))
        if self.timestamp_ms is not None and not 0 <= self.timestamp_ms <= MAX_TIMESTAMP_MS:
            raise ValueError(f"`timestamp_ms` must be 0 to {MAX_TIMESTAMP_MS}, found {self.timestamp_ms}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"`top_k` must be 1 or more, found {self.top_k}")
        if not self.candidates:
            raise ValueError("`candidates` must name at least one video")


class Anchor(msgspec.Struct, frozen=True, gc=False):
    """One anchor of the label distribution."""

    watch_ratio: float
    weight: float


class ItemExplanation(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """Where an item's score comes from."""

    parts: dict[str, float]
    """Each objective's part of the logarithm of the score; they add up to it."""
    anchors: list[Anchor]
    """Weights over the anchors; they add up to 1."""
    watch_time_s: dict[str, float]
    """Quantiles p10, p50, p90 in seconds."""
    states: Annotated[
        dict[str, float] | None,
        msgspec.Meta(
            description="Probabilities of `skip` (under 3 s), `complete` (to the end, 2 % either way) and "
            "`replay`; what is left is a partial view. Of bundles that have them."
        ),
    ] = None


class Item(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One video of the slate."""

    video_id: str
    rank: int
    score: float
    watch_time_s: Annotated[
        float, msgspec.Meta(description="Predicted watch time, seconds: about the median.")
    ]
    watch_ratio: float
    objectives: dict[str, float]
    expected_watch_time_s: Annotated[
        float | None,
        msgspec.Meta(description="Mean of the predicted watch time, seconds. Of bundles that have it."),
    ] = None
    explanation: ItemExplanation | None = None
    """With `explain=true`."""
    propensity: float | None = None
    """With exploration: the probability of this video at this position, given those above it."""


class RerankReply(msgspec.Struct, frozen=True):
    """The ordered slate."""

    request_id: str
    items: list[Item]
    model_version: str
    degraded: list[str]
    """What the answer had to do without: `history` when the store was away."""
    warnings: list[str]
    history_length: int
    """Exposures the ranker has read."""
    took_ms: float
    applied: list[Applied] | msgspec.UnsetType = msgspec.UNSET
    """What each of the request's rules did, in the order in which they applied."""
    explored: bool | msgspec.UnsetType = msgspec.UNSET
    """True if the slate was drawn; otherwise left out."""
    experiment: str | msgspec.UnsetType = msgspec.UNSET
    arm: str | msgspec.UnsetType = msgspec.UNSET


class Influence(msgspec.Struct, frozen=True, gc=False):
    """What one exposure of the sequence adds to a candidate: with it minus without it."""

    video_id: str
    timestamp_ms: int
    score: float
    watch_time_s: float
    """Of the predicted seconds."""


class InfluencedItem(msgspec.Struct, frozen=True):
    """One candidate, and what each exposure adds to it."""

    video_id: str
    score: float
    watch_time_s: float
    exposures: list[Influence]
    """Of the sequence, newest last."""


class InfluenceReply(msgspec.Struct, frozen=True):
    """What the candidates' scores rest on."""

    items: list[InfluencedItem]
    """Best score first."""
    model_version: str
    degraded: list[str]
    took_ms: float


class KeyRights(msgspec.Struct, frozen=True):
    """What the caller's key may do."""

    rights: list[str]
    """Out of label, rerank, read, admin."""


class Sequence(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the service holds on a user."""

    user_id: str
    events: list[FeedbackEvent]
    profile: Profile
    history: list[HistoryEntry] = []
    """Exposures from before the events, as PUT /users gave them, newest last."""


class UserProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A user's profile features, by the names the bundle's manifest declares, and exposures from before the
    events. What is left out stays as it was."""

    user_id: Id
    profile: dict[str, float | str] | msgspec.UnsetType = msgspec.UNSET
    history: list[HistoryEntry] | msgspec.UnsetType = msgspec.UNSET
    """Newest last; the newest 50 are kept."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "user_id", checked_id(self.user_id, "user_id"))
        if self.profile is msgspec.UNSET and self.history is msgspec.UNSET:
            raise ValueError("`profile` or `history` must be given")
        for name, value in (self.profile or {}).items():
            if isinstance(value, str):
                checked_id(value, f"profile.{name}")
            elif not math.isfinite(value):
                raise ValueError(f"`profile.{name}` must be finite")


class Stored(msgspec.Struct, frozen=True):
    """How many entries were written."""

    accepted: int
    status: str = "ok"


class Forgotten(msgspec.Struct, frozen=True):
    """The user is gone from the store and noted in the unlearning ledger."""

    user_id: str
    known: bool
    """Whether the store held anything."""
    status: str = "ok"


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much a version on trial gets."""

    share: UnitInterval
    """0 to 1: of the users for a split, of the requests for a shadow. 0 ends the trial."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:  # so written, NaN is refused too
            raise ValueError(f"`share` must be 0 to 1, found {self.share}")


class OnTrial(msgspec.Struct, frozen=True):
    """A version beside the current one."""

    version: str
    share: float


class Traffic(msgspec.Struct, frozen=True):
    """Who answers what from now on."""

    active: str
    split: OnTrial | None
    shadow: OnTrial | None


class Active(msgspec.Struct, frozen=True):
    """The version that answers from now on."""

    model_version: str
    provider: str


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One version. One that cannot be used has only `version`, `active` and `error`."""

    version: str
    active: bool
    error: str | None = None
    created_at: str | None = None
    files: dict[str, str] = {}
    """SHA-256 by file name."""
    labels: list[str] = []
    labels_by_user: list[str] = []
    objectives: list[str] = []
    weights: dict[str, float] = {}
    sequence_length: int | None = None
    default_tab: str | None = None
    profile_numbers: list[str] = []
    profile_categories: list[str] = []
    signals: dict[str, Any] = {}
    video_features: dict[str, Any] = {}
    watermark_ms: int | None = None
    training: dict[str, Any] = {}
    metrics: dict[str, float] = {}


class Models(msgspec.Struct, frozen=True):
    """Every version, and which of them answers, on what hardware."""

    active: str | None
    provider: str | None
    split: OnTrial | None
    shadow: OnTrial | None
    models: list[Model]


class Health(msgspec.Struct, frozen=True):
    """`degraded` names what is away while the service goes on."""

    status: str
    model_version: str | None = None
    degraded: list[str] = []


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An RFC 9457 problem document."""

    type: str
    """`about:blank`: the status says it all."""
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] = []
    """`loc` and `msg` of each wrong value."""
    rejected: list[Rejected] = []
    """POST /label, when no event went through: each event's code."""
    error: str = ""
    """Under /v2, where clients of the Open Inference Protocol look for it: `detail` again."""
