"""The catalogue's file answers as a dict would, and says what is wrong with one that cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadInput
from models.schema import Video
from service.catalogue import layout
from service.catalogue.file import CatalogueFile
from service.catalogue.writer import CatalogueWriter

WORD = (1 << 64) - 1

# Control characters (Cc) and lone surrogates (Cs) are in no id.
ids = st.one_of(
    st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=64),
    st.text("ab", min_size=1, max_size=3),  # often the same, often the beginning of another
    st.integers(1, 256).map("x".__mul__),
)
durations = st.one_of(st.none(), st.floats(0.001, 86_400))
videos = st.builds(
    lambda i, d, a, t: Video(video_id=i, duration_s=d, author_id=a, tag=t),
    ids,
    durations,
    st.none() | ids,
    st.none() | ids,
)


def written(path: Path, entries: Iterable[Video], cursor: str = "") -> CatalogueFile:
    with CatalogueWriter(path) as writer:
        writer.add(entries)
        writer.finish(cursor=cursor)
    return CatalogueFile.open(path)


def numbered(count: int) -> list[Video]:
    return [Video(video_id=f"v{i}", duration_s=i + 1.0, author_id=f"a{i % 7}") for i in range(count)]


@given(entries=st.lists(videos, max_size=40), others=st.lists(ids, max_size=20))
def test_it_knows_what_a_dict_knows(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Video], others: list[str]
) -> None:
    file = written(tmp_path_factory.mktemp("files") / "file", entries)
    known = {video.video_id: video for video in entries}
    asked = [*others, *known]
    assert len(file) == len(known)
    assert file.count(asked) == sum(i in known for i in asked)
    assert file.videos(asked) == {i: known[i] for i in asked if i in known}
    assert [file.video(i) for i in asked] == [known.get(i) for i in asked]


def test_each_of_many_is_found_and_no_other(tmp_path: Path) -> None:
    entries = numbered(30_000)
    file = written(tmp_path / "file", entries)
    assert file.videos([v.video_id for v in entries]) == {v.video_id: v for v in entries}
    assert file.count([f"w{i}" for i in range(30_000)]) == 0


@given(st.lists(ids, min_size=1, max_size=20), st.integers(0, 15))
def test_one_id_has_the_hash_that_it_has_among_others(some: list[str], seed: int) -> None:
    words, sizes = layout.words_of(some)
    hashes = layout.hashes_of(words, sizes, seed)
    assert hashes.tolist() == [layout.hash_of(i.encode(), seed) for i in some]


def twins(count: int) -> list[str]:
    """Ids of 16 letters with one hash under the first seed: the second half is computed from the first."""
    inverse = pow(layout._ODD, -1, 1 << 64)
    factors = layout._OTHER, layout._OTHER**2 & WORD

    def mixed(raw: bytes) -> int:
        x = int.from_bytes(raw, "little") * layout._ODD & WORD
        return x ^ x >> 32

    found = ["abcdefghijklmnop"]
    total = mixed(b"abcdefgh") * factors[0] + mixed(b"ijklmnop") * factors[1]
    for number in range(1_000_000):
        first = b"%08d" % number
        y = (total - mixed(first) * factors[0]) * pow(factors[1], -1, 1 << 64) & WORD
        second = ((y ^ y >> 32) * inverse & WORD).to_bytes(8, "little")
        if second.isascii() and second.decode().isprintable():
            found.append((first + second).decode())
            if len(found) == count:
                return found
    raise AssertionError("there are fewer")


def test_ids_that_share_a_hash_are_told_apart(tmp_path: Path) -> None:
    same = twins(4)
    assert len({layout.hash_of(i.encode(), 0) for i in same}) == 1
    entries = [Video(video_id=i, duration_s=n + 1.0) for n, i in enumerate(same[:3])]
    file = written(tmp_path / "file", [*entries, *numbered(100), *entries[:1]])
    assert file.header.seed == 1
    assert len(file) == 103
    assert file.videos(same) == {v.video_id: v for v in entries}
    # Where only one of them is in the file, the others' hashes lead to its record; only the ids differ.
    alone = written(tmp_path / "alone", entries[:1])
    assert alone.header.seed == 0
    assert alone.videos(same) == {same[0]: entries[0]}
    assert [alone.video(i) for i in same] == [entries[0], None, None, None]


def test_a_byte_that_changed_anywhere_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = written(path, numbered(200))
    whole = path.read_bytes()
    begins = [at for at, size in file.header.parts.values() if size]
    for at in [8, *begins, *(begin + 3 for begin in begins), len(whole) - 8]:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(BadInput, match=r"is damaged|no catalogue .* can read"):
            CatalogueFile.open(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"{}", "no catalogue"),
        (b'{"format": "reelrank catalogue 2"}', "no catalogue"),
        (b"\xff" * 5000, "no catalogue"),
    ],
)
def test_what_is_no_catalogue_is_refused_with_a_way_out(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=rf"{path}.*{said}.*catalogue build"):
        CatalogueFile.open(path)
    with pytest.raises(BadInput, match="No such file"):
        CatalogueFile.open(tmp_path / "none")


def test_one_that_was_cut_short_says_how_much_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    written(path, numbered(200))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(BadInput, match=f"should have {len(whole)} bytes and has {len(whole) - 100}"):
        CatalogueFile.open(path)


def test_an_open_file_answers_on_when_another_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    old = written(path, numbered(100))
    new = written(path, [Video(video_id="v1", duration_s=9.0)])
    assert old.videos(["v1", "v2"]) == {v.video_id: v for v in numbered(3)[1:]}
    assert new.videos(["v1", "v2"]) == {"v1": Video(video_id="v1", duration_s=9.0)}


def test_a_file_that_is_not_finished_replaces_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    written(path, numbered(5))
    before = path.read_bytes()

    def stops() -> Iterator[Video]:
        yield from numbered(1000)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(path, stops())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none/file cannot be written: No such file"):
        CatalogueWriter(tmp_path / "none" / "file")
