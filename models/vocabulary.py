"""Which ids a bundle knows, and the index of each in its embedding tables."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import repeat
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.errors import CorruptBundle

PADDING: Final = 0
"""Index of a step that is not there."""
UNKNOWN: Final = 1
"""Index of an id outside the vocabulary, or of a missing one. Trained, by id dropout."""
FIRST: Final = 2
"""Index of the first known id."""


class Vocabulary:
    """Ids by field. Index 0 is padding, 1 is unknown, known ids follow in the order they are listed.

    Fields are `video_id`, `author_id`, `tag`, `tab`, and one `profile.<name>` for every categorical
    profile feature.

    Args:
        fields: for each field its ids, each once, as strings.

    Raises:
        ValueError: an id is listed twice in a field.
    """

    def __init__(self, fields: Mapping[str, Iterable[str]]) -> None:
        self.fields: dict[str, list[str]] = {name: list(ids) for name, ids in fields.items()}
        self._indices: dict[str, dict[str, int]] = {}
        for name, ids in self.fields.items():
            indices = {value: index for index, value in enumerate(ids, FIRST)}
            if len(indices) != len(ids):
                raise ValueError(f"field {name!r} lists an id twice")
            self._indices[name] = indices

    def size(self, field: str) -> int:
        """Return the rows of the field's embedding table, padding and unknown included."""
        return len(self.fields[field]) + FIRST

    def id_to_index(self, field: str) -> Mapping[str, int]:
        """Return the indices of one field by id, for callers that look up many: `.get(id, UNKNOWN)`."""
        return self._indices[field]

    def index(self, field: str, value: str | None) -> int:
        """Return the id's index; `UNKNOWN` if it is missing or not in the vocabulary."""
        return self._indices[field].get(value, UNKNOWN) if value is not None else UNKNOWN

    def encode(self, field: str, values: Collection[str | None]) -> npt.NDArray[np.int64]:
        """Return the indices of many ids, `[N]` int64; `UNKNOWN` where there is none."""
        # A loop in C. No vocabulary has None, so None is unknown like any other.
        get: Callable[[str | None, int], int] = self._indices[field].get  # type: ignore[assignment]
        return np.fromiter(map(get, values, repeat(UNKNOWN)), np.int64, len(values))

    def to_bytes(self) -> bytes:
        """Return the file `vocabulary.json`: `{"field": ["id", …], …}`."""
        return msgspec.json.encode(self.fields)

    def digest(self) -> str:
        """Return the fingerprint kept in the manifest."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """Load `vocabulary.json`.

        Raises:
            CorruptBundle: not there, or not such a file.
        """
        try:
            return cls(msgspec.json.decode(path.read_bytes(), type=dict[str, list[str]]))
        except (OSError, ValueError) as e:
            raise CorruptBundle(f"{path} cannot be read as a vocabulary: {e}.") from e
