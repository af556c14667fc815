"""What an exposure, a candidate and their descriptions look like, in the units every module uses.

One definition for the wire, the store, and the data sets. Times are Unix milliseconds, durations are
seconds. Ids are opaque strings; on the wire a JSON integer is accepted and means its decimal string.
"""

from __future__ import annotations

import math
import re
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

FLAGS: Final = ("like", "follow", "comment", "forward", "hate", "profile_enter")
"""What a user may do with a video besides watching it, in the order of every bit field and column."""

EXPLICIT: Final = ("like", "follow", "comment", "forward")
"""The flags that count as explicit (positive) feedback: δ(Σ y_e) of LabelCraft."""

MAX_ID_BYTES: Final = 256
_CONTROL: Final = r"\x00-\x1f\x7f-\x9f"
CONTROL_CHARACTERS: Final = f"[{_CONTROL}]"
"""A regular expression: no id, of the wire or of a log, holds any."""
MIN_DURATION_S: Final = 0.001
"""A millisecond, what logs resolve. Far below it, float32 columns would hold 0 and ratios infinity."""
MAX_DURATION_S: Final = 86_400.0
"""A day. Longer than any short video; shorter than the same video in milliseconds by mistake."""
MAX_WATCH_TIME_S: Final = 7 * 86_400.0
"""A week of looping. Above it the clock or the unit is wrong."""
MAX_TIMESTAMP_MS: Final = 253_402_300_799_999
"""End of the year 9999."""
MAX_POSITION: Final = 1_000_000
"""Far below any feed that was scrolled to its end. Above it an id was sent in place of a position."""
SESSION_GAP_MS: Final = 30 * 60 * 1000
"""A longer pause between a user's exposures begins another session."""
MIN_PUBLISHED_MS: Final = 10**11
"""Of the year 1973: a smaller number is in seconds."""

# The JSON schemas below document what `__post_init__` checks; msgspec does not enforce them.
if TYPE_CHECKING:
    Id = str
else:  # what the wire may hold; `__post_init__` makes a string of it
    _TEXT = {"minLength": 1, "maxLength": MAX_ID_BYTES, "pattern": f"^[^{_CONTROL}]*$"}
    Id = Annotated[str, msgspec.Meta(extra_json_schema=_TEXT)] | int

TimestampMs = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": MAX_TIMESTAMP_MS})]
UnitInterval = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": 1})]
PublishedMs = Annotated[
    int, msgspec.Meta(extra_json_schema={"minimum": MIN_PUBLISHED_MS, "maximum": MAX_TIMESTAMP_MS})
]
WatchTimeS = Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": MAX_WATCH_TIME_S})]
DurationS = Annotated[
    float, msgspec.Meta(extra_json_schema={"minimum": MIN_DURATION_S, "maximum": MAX_DURATION_S})
]
Position = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1, "maximum": MAX_POSITION})]


def checked_id(value: object, member: str) -> str:
    """Return an id of the wire as a string.

    Raises:
        ValueError: not 1 to 256 bytes of UTF-8 without control characters.
    """
    text = value if isinstance(value, str) else str(value)
    # isprintable() is the fast path of the common case; the slow path finds why it failed.
    if text and len(text) <= 64 and text.isascii() and text.isprintable():
        return text
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError(f"`{member}` holds a lone surrogate, which is not UTF-8") from None
    if not 1 <= size <= MAX_ID_BYTES:
        raise ValueError(f"`{member}` must be 1 to {MAX_ID_BYTES} bytes, found {size}")
    if re.search(CONTROL_CHARACTERS, text):
        raise ValueError(f"`{member}` holds a control character")
    return text


def _seconds(value: float, member: str, low: float, high: float) -> None:
    if not low <= value <= high:  # so written, NaN is refused too
        hint = "; is it in milliseconds?" if math.isfinite(value) and value > high else ""
        raise ValueError(f"`{member}` must be {low:g} to {high:g} s, found {value:g}{hint}")


_optional_of: Final = attrgetter(
    "session_id", "tab", "device", "author_id", "tag", "request_id", "position", "signals"
)
_NOTHING: Final = (None,) * 8


class FeedbackEvent(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """One exposure of one video to one user, and everything the user did with it so far.

    `watch_time_s` may exceed `duration_s`: short videos loop. It is never clipped here; a label maker
    that needs a clipped value clips it itself and says so. `duration_s` may be missing on the wire when
    the catalogue knows the video; it is present in everything that is stored or computed on.
    `request_id` and `position` say which slate showed the video, and where in it, from 1; the served log
    keeps them, a user's sequence does not.
    """

    event_id: Id
    user_id: Id
    video_id: Id
    timestamp_ms: TimestampMs
    watch_time_s: WatchTimeS
    duration_s: DurationS | None = None
    like: bool = False
    follow: bool = False
    comment: bool = False
    forward: bool = False
    hate: bool = False
    profile_enter: bool = False
    session_id: Id | None = None
    tab: Id | None = None
    device: Id | None = None
    author_id: Id | None = None
    tag: Id | None = None
    request_id: Id | None = None
    position: Position | None = None
    signals: dict[str, bool | float] | None = None
    """A platform's own, of those that the bundle declares; what is left out is no, or 0."""

    def __post_init__(self) -> None:
        # What nearly every event is, in as few steps as it takes: the checks below, which say what is wrong,
        # would cost as much as the decoding.
        event_id, user_id, video_id = self.event_id, self.user_id, self.video_id
        duration_s = self.duration_s
        if (
            type(event_id) is type(user_id) is type(video_id) is str
            and 0 < len(event_id) <= 64
            and 0 < len(user_id) <= 64
            and 0 < len(video_id) <= 64
            and (ids := event_id + user_id + video_id).isascii()
            and ids.isprintable()
            and 0 <= self.timestamp_ms <= MAX_TIMESTAMP_MS
            and 0.0 <= self.watch_time_s <= MAX_WATCH_TIME_S
            and (duration_s is None or MIN_DURATION_S <= duration_s <= MAX_DURATION_S)
            and _optional_of(self) == _NOTHING
        ):
            return
        for member in (
            "event_id",
            "user_id",
            "video_id",
            "session_id",
            "tab",
            "device",
            "author_id",
            "tag",
            "request_id",
        ):
            value = getattr(self, member)
            if value is not None:
                checked = checked_id(value, member)
                if checked is not value:
                    msgspec.structs.force_setattr(self, member, checked)
        if not 0 <= self.timestamp_ms <= MAX_TIMESTAMP_MS:
            raise ValueError(f"`timestamp_ms` must be 0 to {MAX_TIMESTAMP_MS}, found {self.timestamp_ms}")
        _seconds(self.watch_time_s, "watch_time_s", 0.0, MAX_WATCH_TIME_S)
        if self.duration_s is not None:
            _seconds(self.duration_s, "duration_s", MIN_DURATION_S, MAX_DURATION_S)
        if self.position is not None and not 1 <= self.position <= MAX_POSITION:
            raise ValueError(f"`position` must be 1 to {MAX_POSITION}, found {self.position}")


class Candidate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A video that may be ranked. What is left out is looked up in the catalogue, then unknown."""

    video_id: Id
    duration_s: DurationS | None = None
    author_id: Id | None = None
    tag: Id | None = None
    published_ms: PublishedMs | None = None

    def __post_init__(self) -> None:
        # Written out, not looped over: a slate has hundreds of these.
        video, author, tag = self.video_id, self.author_id, self.tag
        if (checked := checked_id(video, "video_id")) is not video:
            msgspec.structs.force_setattr(self, "video_id", checked)
        if author is not None and (checked := checked_id(author, "author_id")) is not author:
            msgspec.structs.force_setattr(self, "author_id", checked)
        if tag is not None and (checked := checked_id(tag, "tag")) is not tag:
            msgspec.structs.force_setattr(self, "tag", checked)
        if self.duration_s is not None:
            _seconds(self.duration_s, "duration_s", MIN_DURATION_S, MAX_DURATION_S)
        published = self.published_ms
        if published is not None and not MIN_PUBLISHED_MS <= published <= MAX_TIMESTAMP_MS:
            raise ValueError(
                f"`published_ms` must be {MIN_PUBLISHED_MS} to {MAX_TIMESTAMP_MS}, found {published}; "
                "is it in seconds?"
            )


FeatureValue = float | str | list[float | str]
"""A number, a category, or several values of one, or the components of an embedding."""


class Video(Candidate, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A catalogue entry: what a candidate may lack, and what only the catalogue knows."""

    features: dict[str, FeatureValue] | None = None
    """A platform's own, of those that the bundle declares; what is left out is unknown."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (self.features or {}).items():
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, str):
                    checked_id(one, f"features.{name}")
                elif not math.isfinite(one):
                    raise ValueError(f"`features.{name}` must be finite")


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An exposure from before a user's sequence, and all that is known of it."""

    video_id: Id
    long_view: bool = False
    like: bool = False

    def __post_init__(self) -> None:
        if (checked := checked_id(self.video_id, "video_id")) is not self.video_id:
            msgspec.structs.force_setattr(self, "video_id", checked)


Profile = dict[str, float | str]
"""A user's profile features by name, as declared by a bundle's manifest; a missing name is unknown."""


def category_of(value: float | str) -> str:
    """Return a categorical value as its vocabulary spells it: `3`, `3.0` and `"3"` are one category."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
