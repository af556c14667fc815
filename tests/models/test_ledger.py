"""The unlearning ledger's lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.errors import BadInput
from models.ledger import Entry, read


def test_entries_come_as_they_lie_there_from_a_time_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_text(
        '\ufeff{"user_id":"b","forgotten_at_ms":2}\n\n{"user_id":"a/\\u00e4","forgotten_at_ms":1}\n'
    )
    assert read(path) == [Entry(user_id="b", forgotten_at_ms=2), Entry(user_id="a/ä", forgotten_at_ms=1)]
    assert read(path, since_ms=2) == [Entry(user_id="b", forgotten_at_ms=2)]


def test_a_line_may_name_a_video_an_author_or_one_exposure(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    exposure: dict[str, str | int] = {"user_id": "u", "video_id": "v", "timestamp_ms": 7}
    named: list[dict[str, str | int]] = [{"user_id": "u"}, {"video_id": "v"}, {"author_id": "a"}, exposure]
    path.write_text("".join(json.dumps({**ids, "forgotten_at_ms": 9}) + "\n" for ids in named))
    entries = read(path)
    assert [entry.ids for entry in entries] == named
    assert [entry.is_of_a_user for entry in entries] == [True, False, False, False]


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b'{"user_id": 3, "forgotten_at_ms": 1}',
        b'{"user_id": "x"}',
        b'{"forgotten_at_ms": 1}',
        b'{"video_id": "x", "timestamp_ms": 3, "forgotten_at_ms": 1}',
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
