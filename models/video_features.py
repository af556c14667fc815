"""A platform's own features of videos: numbers, categories of one or several values, and embeddings."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, model_validator

from models.schema import FeatureValue, Video, category_of
from models.vocabulary import PADDING, Vocabulary

# Shape suffixes: N videos, F columns of numbers, C categories.

MAX_VALUES: Final = 8
"""Of one category of one video, such as its tags."""
MAX_FEATURES: Final = 64
MAX_COLUMNS: Final = 2048
"""Numbers and components of embeddings together."""

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_FIELD: Final = "video."
"""Prefix of the vocabulary's fields for categories."""


class FeatureFault(NamedTuple):
    """A feature of a video that breaks a rule, and which."""

    name: str
    detail: str


class VideoFeatures(BaseModel):
    """Names of the video features that a log declares, and by it a bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    numbers: tuple[str, ...] = ()
    """Raw values; scaling is learned and lives in the graph."""
    categories: tuple[str, ...] = ()
    """Texts, one or several a video, of which the first `MAX_VALUES` count."""
    embeddings: dict[str, int] = {}
    """Vectors, with how many components each has."""

    @model_validator(mode="after")
    def _names_are_free(self) -> VideoFeatures:
        names = self.names
        if len(names) > MAX_FEATURES:
            raise ValueError(f"at most {MAX_FEATURES} features of videos, found {len(names)}")
        for name in names:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a feature: a letter, then letters, digits and `_`")
            if name in Video.__struct_fields__:
                raise ValueError(f"{name!r} is the name of something else; give the feature another")
            if names.count(name) > 1:
                raise ValueError(f"the feature {name!r} of videos is declared twice")
        if min(self.embeddings.values(), default=1) < 1 or self.width > MAX_COLUMNS:
            raise ValueError(f"numbers and embeddings take {self.width} columns, of at most {MAX_COLUMNS}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """All: numbers, categories, embeddings."""
        return (*self.numbers, *self.categories, *self.embeddings)

    @property
    def width(self) -> int:
        """F, the columns of `candidate_numbers`: the numbers, then the components of each embedding."""
        return len(self.numbers) + sum(self.embeddings.values())

    @property
    def fields(self) -> tuple[str, ...]:
        """The vocabulary's fields of the categories."""
        return tuple(_FIELD + name for name in self.categories)

    def columns_of_embeddings(self) -> Iterator[tuple[str, slice]]:
        """Yield each embedding with its columns of `candidate_numbers`."""
        start = len(self.numbers)
        for name, width in self.embeddings.items():
            yield name, slice(start, start + width)
            start += width

    def fault(self, values: Mapping[str, FeatureValue]) -> FeatureFault | None:
        """Return the first feature of a video that breaks a rule; `None` if all is well."""
        for name, value in values.items():
            if name in self.numbers:
                rule = None if isinstance(value, int | float) else "must be a number"
            elif name in self.categories:
                count = len(value) if isinstance(value, list) else 1
                rule = None if count <= MAX_VALUES else f"may have {MAX_VALUES} values, found {count}"
            elif name in self.embeddings:
                rule = _rule_of_vector(value, self.embeddings[name])
            else:
                known = f"this bundle knows {', '.join(self.names)}" if self.names else "this bundle has none"
                return FeatureFault(name, f"There is no feature {name!r} of videos; {known}.")
            if rule is not None:
                return FeatureFault(name, f"`features.{name}` {rule}.")
        return None


NO_VIDEO_FEATURES: Final = VideoFeatures()


def video_feature_arrays(
    values: Sequence[Mapping[str, FeatureValue] | None], vocabulary: Vocabulary, features: VideoFeatures
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Lay the features of videos out as the ranker takes them.

    Args:
        values: of N videos, by name; what is missing, or of another type than declared, is unknown.
        vocabulary: the bundle's.
        features: those that the bundle declares; others of a video are left out.

    Returns:
        Numbers `[N, F]` float32, NaN where unknown, or beyond a float32; and categories `[N, C·MAX_VALUES]`
        int64, filled up with `PADDING`.
    """
    numbers = np.full((len(values), features.width), np.nan, np.float32)
    categories = np.full((len(values), len(features.categories), MAX_VALUES), PADDING, np.int64)
    with np.errstate(over="ignore"):
        for row, known in enumerate(values):
            if not known:
                continue
            for column, name in enumerate(features.numbers):
                if isinstance(number := known.get(name), int | float):
                    numbers[row, column] = number
            for name, columns in features.columns_of_embeddings():
                if _rule_of_vector(vector := known.get(name), features.embeddings[name]) is None:
                    numbers[row, columns] = vector
            for column, name in enumerate(features.categories):
                texts = map(category_of, _values(known.get(name)))
                rows = vocabulary.encode(_FIELD + name, list(texts))
                categories[row, column, : len(rows)] = rows
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers, categories.reshape(len(values), MAX_VALUES * len(features.categories))


def _values(value: FeatureValue | None) -> list[float | str]:
    if value is None:
        return []
    return value[:MAX_VALUES] if isinstance(value, list) else [value]


def _rule_of_vector(value: FeatureValue | None, width: int) -> str | None:
    if isinstance(value, list) and len(value) == width and all(isinstance(x, int | float) for x in value):
        return None
    found = f"{len(value)} values" if isinstance(value, list) else repr(value)
    return f"must be {width} numbers, found {found}"
