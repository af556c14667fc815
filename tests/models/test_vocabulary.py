"""Rows of ids: padding, unknown, and the order they were listed in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import CorruptBundle
from models.vocabulary import FIRST, PADDING, UNKNOWN, Vocabulary

IDS = st.lists(st.text(st.characters(exclude_categories=["Cs"])), unique=True, max_size=20)
FIELDS = st.dictionaries(st.sampled_from(["video_id", "author_id", "tag", "tab", "profile.age"]), IDS)


def test_known_ids_follow_padding_and_unknown_in_the_order_listed() -> None:
    vocabulary = Vocabulary({"video_id": ["b", "a"], "tag": []})
    assert (PADDING, UNKNOWN, FIRST) == (0, 1, 2)
    assert [vocabulary.index("video_id", v) for v in ("b", "a", "c", None)] == [2, 3, UNKNOWN, UNKNOWN]
    assert vocabulary.index("tag", "a") == UNKNOWN
    assert (vocabulary.size("video_id"), vocabulary.size("tag")) == (4, 2)


@given(ids=IDS)
def test_rows_are_distinct_and_inside_the_table(ids: list[str]) -> None:
    vocabulary = Vocabulary({"tag": ids})
    rows = [vocabulary.index("tag", i) for i in ids]
    assert rows == list(range(FIRST, vocabulary.size("tag")))


@given(ids=IDS, queried=st.lists(st.none() | st.text(max_size=3)))
def test_many_at_once_are_the_same_as_one_by_one(ids: list[str], queried: list[str | None]) -> None:
    vocabulary = Vocabulary({"tag": ids})
    found = vocabulary.encode("tag", [*queried, *ids])
    assert found.dtype == np.int64
    assert found.tolist() == [vocabulary.index("tag", i) for i in [*queried, *ids]]


def test_an_id_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="'tag' lists an id twice"):
        Vocabulary({"tag": ["a", "b", "a"]})


def test_an_undeclared_field_is_an_error_and_not_unknown() -> None:
    with pytest.raises(KeyError):
        Vocabulary({}).index("tag", "a")


@given(fields=FIELDS)
def test_a_file_gives_the_same_vocabulary_again(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, list[str]]
) -> None:
    vocabulary = Vocabulary(fields)
    path = tmp_path_factory.mktemp("v") / "vocabulary.json"
    path.write_bytes(vocabulary.to_bytes())
    again = Vocabulary.read(path)
    assert again.fields == fields
    assert again.digest() == vocabulary.digest()


def test_another_order_is_another_vocabulary() -> None:
    a, b = Vocabulary({"tag": ["a", "b"]}), Vocabulary({"tag": ["b", "a"]})
    assert a.digest() != b.digest()


def test_the_caller_keeps_its_lists() -> None:
    ids = ["a"]
    vocabulary = Vocabulary({"tag": ids})
    ids.append("b")
    assert vocabulary.fields == {"tag": ["a"]}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b'{"tag": "a"}', b'{"tag": [1]}', b'{"tag": [null]}', b'{"tag": ["a", "a"]}',
        b'{"tag": ["a"]}x', b'{"tag": ["\xff"]}', b'{"tag": ["\\ud800"]}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_file_is_a_corrupt_bundle(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_bytes(content)
    with pytest.raises(CorruptBundle, match="cannot be read as a vocabulary"):
        Vocabulary.read(path)


def test_a_missing_file_is_a_corrupt_bundle(tmp_path: Path) -> None:
    for path in (tmp_path / "vocabulary.json", tmp_path):
        with pytest.raises(CorruptBundle, match="cannot be read as a vocabulary"):
            Vocabulary.read(path)
