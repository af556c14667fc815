"""Rules and exploration of a slate as they are on the wire. `service.pipeline.arrangement` applies them."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Final, Literal, Self

import msgspec

from models.errors import BadInput
from models.schema import UnitInterval

MAX_FRESH_H: Final = 8_760
"""A year."""
MAX_FRESH_WEIGHT: Final = 100
MIN_TEMPERATURE: Final = 1e-6
"""The millionth to which scores are answered. Far below it, equal scores would not be equally probable."""
MAX_TEMPERATURE: Final = 1000
"""Scores are in [0, 1]: far above it every order is as probable."""
_TEMPERATURES: Final = {"minimum": MIN_TEMPERATURE, "maximum": MAX_TEMPERATURE}

_Count = Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 1})]


class FreshBoost(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Multiplies the score of a video that is `age` hours old by `1 + weight · max(0, 1 - age / hours)`."""

    hours: Annotated[float, msgspec.Meta(extra_json_schema={"exclusiveMinimum": 0, "maximum": MAX_FRESH_H})]
    weight: Annotated[float, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": MAX_FRESH_WEIGHT})]

    def __post_init__(self) -> None:
        if not 0 < self.hours <= MAX_FRESH_H:
            raise ValueError(f"`hours` must be above 0 and at most {MAX_FRESH_H}, found {self.hours:g}")
        if not 0 <= self.weight <= MAX_FRESH_WEIGHT:
            raise ValueError(f"`weight` must be 0 to {MAX_FRESH_WEIGHT}, found {self.weight:g}")


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Rules of one slate, in the order in which they apply. Among what they leave alone the score orders."""

    exclude_seen: bool = False
    """Leave out videos of the user's sequence and history."""
    exclude_hated: Literal["video", "author"] | None = None
    """Leave out videos that the user hated, or with `author` all videos of their authors."""
    fresh_boost: FreshBoost | None = None
    """Raise videos whose publication time (`published_ms`) is recent. An unknown one is not raised."""
    author_decay: UnitInterval | None = None
    """Multiply the score of the n-th best video of an author by `author_decay ** (n - 1)`."""
    diversity: UnitInterval | None = None
    """Maximal marginal relevance: the next video has the greatest `(1 - diversity) · score / best score -
    diversity · similarity` to those before it, where the similarity is 1 of one author and 0.5 of one tag."""
    max_per_author: _Count | None = None
    """Leave out videos of an author after so many."""
    max_per_tag: _Count | None = None
    """Leave out videos of a tag after so many."""
    pin: dict[str, _Count] = {}
    """Positions of videos, from 1. They count in `max_per_author` and `max_per_tag` and are not left out by
    them; only `exclude_seen` and `exclude_hated` leave them out."""

    def __post_init__(self) -> None:
        for member in ("author_decay", "diversity"):
            share = getattr(self, member)
            if share is not None and not 0 <= share <= 1:  # so written, NaN is refused too
                raise ValueError(f"`{member}` must be 0 to 1, found {share:g}")
        for member in ("max_per_author", "max_per_tag"):
            count = getattr(self, member)
            if count is not None and count < 1:
                raise ValueError(f"`{member}` must be 1 or more, found {count}")
        for video_id, position in self.pin.items():
            if position < 1:
                raise ValueError(f"`pin` must have positions from 1, found {position} of {video_id!r}")
        for position, count in Counter(self.pin.values()).items():
            if count > 1:
                raise ValueError(f"`pin` has {count} videos at position {position}; a position takes one")


class Explore(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Draw the slate by score instead of sorting it. Without both it is not explored."""

    temperature: Annotated[
        float, msgspec.Meta(extra_json_schema={"anyOf": [{"const": 0}, _TEMPERATURES]})
    ] = 0.0
    """Scores that differ by it differ by a factor of e in how probable they come first; 0 sorts by score."""
    epsilon: UnitInterval = 0.0
    """Share of slates in uniformly random order."""

    def __post_init__(self) -> None:
        if self.temperature != 0 and not MIN_TEMPERATURE <= self.temperature <= MAX_TEMPERATURE:
            raise ValueError(
                f"`temperature` must be 0, or {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE}, "
                f"found {self.temperature:g}"
            )
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"`epsilon` must be 0 to 1, found {self.epsilon:g}")

    def __bool__(self) -> bool:
        return self.temperature > 0 or self.epsilon > 0

    @classmethod
    def parse(cls, text: str, source: str) -> Self:
        """Parse `temperature=0.05,epsilon=0.02`, either of which may be left out.

        Args:
            text: of a setting.
            source: its name, for the message.

        Raises:
            BadInput: it is something else.
        """
        pairs = [part.strip().partition("=") for part in text.split(",")]
        try:
            return msgspec.convert({name: float(value) for name, _, value in pairs}, cls)
        except ValueError as e:
            raise BadInput(
                f"{source} must be like temperature=0.05,epsilon=0.02, found {text[:60]!r}: {e}."
            ) from None


class Applied(msgspec.Struct, frozen=True):
    """What one rule did to a slate."""

    rule: str
    videos: int
    """How many it left out, raised, lowered or pinned."""
    effect: str
    """The same in words, for logs."""
