"""Which ids a bundle knows, and the row of each in its embedding tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from models.errors import CorruptBundle

PADDING: Final = 0
"""Row of a step that is not there."""
UNKNOWN: Final = 1
"""Row of an id outside the vocabulary, or of a missing one. Trained, by id dropout."""
FIRST: Final = 2
"""Row of the first known id."""


class Vocabulary:
    """Ids by field. Row 0 is padding, row 1 is unknown, known ids follow in the order they are listed.

    Fields are `video_id`, `author_id`, `tag`, `tab`, and one `profile.<name>` for every categorical
    profile feature.

    Args:
        fields: for each field its ids, each once, as strings.

    Raises:
        ValueError: an id is listed twice in a field.
    """

    def __init__(self, fields: Mapping[str, Iterable[str]]) -> None:
        self.fields: dict[str, list[str]] = {name: list(ids) for name, ids in fields.items()}
        self._rows: dict[str, dict[str, int]] = {}
        for name, ids in self.fields.items():
            rows = {value: row for row, value in enumerate(ids, FIRST)}
            if len(rows) != len(ids):
                raise ValueError(f"field {name!r} lists an id twice")
            self._rows[name] = rows

    def size(self, field: str) -> int:
        """Rows of the field's embedding table, padding and unknown included."""
        return len(self.fields[field]) + FIRST

    def rows(self, field: str) -> Mapping[str, int]:
        """Id -> row of one field, for callers that look up many at once: `.get(id, UNKNOWN)`."""
        return self._rows[field]

    def row(self, field: str, value: str | None) -> int:
        """The id's row; `UNKNOWN` if it is missing or not in the vocabulary."""
        return self._rows[field].get(value, UNKNOWN) if value is not None else UNKNOWN

    def encode(self, field: str, values: Iterable[str | None]) -> npt.NDArray[np.int64]:
        """Rows of many ids, `[N]` int64."""
        get = self._rows[field].get
        return np.fromiter((get(v, UNKNOWN) if v is not None else UNKNOWN for v in values), np.int64)

    def to_bytes(self) -> bytes:
        """The file `vocabulary.json`: `{"field": ["id", …], …}`."""
        return msgspec.json.encode(self.fields)

    def digest(self) -> str:
        """Fingerprint kept in the manifest."""
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
