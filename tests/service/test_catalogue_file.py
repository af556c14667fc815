"""The catalogue file holds what a dict would, and a file that cannot be used is refused with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import BadInput
from models.schema import Video
from service.catalogue import file as module
from service.catalogue.file import CatalogueFile, CatalogueWriter, VideoFacts
from tests.service.catalogues import numbered, write

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


def facts(video: Video) -> VideoFacts:
    return VideoFacts(video.duration_s, video.author_id, video.tag)


@given(entries=st.lists(videos, max_size=40), others=st.lists(ids, max_size=20))
def test_it_holds_what_a_dict_holds(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Video], others: list[str]
) -> None:
    path = tmp_path_factory.mktemp("files") / "file"
    known = {video.video_id: facts(video) for video in entries}
    assert write(path, entries, "c").videos == len(known)
    file = CatalogueFile.open(path)
    assert (len(file), file.header.cursor) == (len(known), "c")
    assert file.lookup([*others, *known]) == known | {i: known[i] for i in others if i in known}
    assert [file.get(i) for i in (*others, *known)] == [known.get(i) for i in (*others, *known)]


def test_the_later_of_two_videos_with_one_id_counts_across_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH", 7)
    changed = [Video(video_id=f"v{i}", duration_s=99.0) for i in range(0, 100, 3)]
    write(tmp_path / "file", [*numbered(100), *changed])
    file = CatalogueFile.open(tmp_path / "file")
    assert len(file) == 100
    want = {v.video_id: facts(v) for v in [*numbered(100), *changed]}
    assert file.lookup([*want, "v100", "w1"]) == want


def test_a_byte_that_changed_anywhere_is_detected(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, numbered(200))
    intact = path.read_bytes()
    for at in [*range(0, len(intact), 997), len(intact) - 1]:
        path.write_bytes(intact[:at] + bytes([intact[at] ^ 1]) + intact[at + 1 :])
        with pytest.raises(BadInput, match=r"is damaged|no catalogue .* can read"):
            CatalogueFile.open(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"{}", "no catalogue"),
        (b'{"format": "reelrank catalogue 1"}'.ljust(4096), "no catalogue"),
        (b"\xff" * 5000, "no catalogue"),
    ],
)
def test_another_file_is_refused_with_a_way_out(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=rf"{path}.*{reason}.*catalogue build"):
        CatalogueFile.open(path)
    with pytest.raises(BadInput, match="No such file"):
        CatalogueFile.open(tmp_path / "none")


@pytest.mark.parametrize("length", [20, 5000, -100, -1])
def test_a_file_that_was_cut_short_is_damaged(tmp_path: Path, length: int) -> None:
    path = tmp_path / "file"
    write(path, numbered(200))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BadInput, match=rf"{path} is damaged: it was cut short.*catalogue build"):
        CatalogueFile.open(path)


def test_an_open_file_stays_readable_when_another_replaces_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, numbered(100))
    old = CatalogueFile.open(path)
    write(path, [Video(video_id="v1", duration_s=9.0)])
    new = CatalogueFile.open(path)
    assert old.lookup(["v1", "v2"]) == {v.video_id: facts(v) for v in numbered(3)[1:]}
    assert new.lookup(["v1", "v2"]) == {"v1": VideoFacts(9.0)}


def test_an_unfinished_file_replaces_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, numbered(5))
    before = path.read_bytes()

    def stops() -> Iterator[Video]:
        yield from numbered(1000)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(path, stops())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"none/file cannot be written: No such file"):
        CatalogueWriter(tmp_path / "none" / "file")
    monkeypatch.setattr(module, "MAP_BYTES", 1 << 16)
    with pytest.raises(BadInput, match=r"file cannot be written: .*limit reached"):
        write(tmp_path / "file", numbered(50_000))
    assert list(tmp_path.iterdir()) == []
