"""The unlearning ledger's lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import BadInput
from models.ledger import Entry, read


def test_entries_come_as_they_lie_there_from_a_time_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_text(
        '\ufeff{"user_id":"b","forgotten_at_ms":2}\n\n{"user_id":"a/\\u00e4","forgotten_at_ms":1}\n'
    )
    assert read(path) == [Entry("b", 2), Entry("a/ä", 1)]
    assert read(path, since_ms=2) == [Entry("b", 2)]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b'{"user_id": 3, "forgotten_at_ms": 1}',
        b'{"user_id": "x"}',
        b"\xff",
        b'{"user_id": "x", "forgotten_at_ms": 1000000000000000}',
        b'{"user_id": "x", "y": ' + b"[" * 5000,
    ],
)
def test_a_line_that_is_no_entry_is_named_and_never_skipped(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "ledger"
    path.write_bytes(b'{"user_id":"a","forgotten_at_ms":1}\n' + line + b"\n")
    with pytest.raises(BadInput, match="line 2"):
        read(path)


def test_a_missing_ledger_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be read"):
        read(tmp_path / "nope")
