"""A service over a catalogue's file: what it says, under what the store says; one copy for all workers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import httpx2
import pytest

from models.arrays import I64
from models.errors import BadInput, ReelrankError
from models.features import Candidates
from models.schema import Candidate, FeedbackEvent, Video
from service.__main__ import app
from service.catalogue import catalogue as module
from service.catalogue.catalogue import Catalogue
from service.catalogue.file import CatalogueFile, Known
from service.state import EmbeddedServer
from tests.service.memory_store import MemoryStore
from tests.service.running import START_S, command, event, eventually, running, served
from tests.service.stores import redis_store
from tests.service.test_catalogue_file import numbered, written

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def completed(catalogue: Catalogue, *rows: Candidate) -> list[Candidate]:
    found = catalogue.complete(Candidates.from_rows(rows))
    return [
        Candidate(video_id=v, duration_s=d, author_id=a, tag=t)
        for v, d, a, t in zip(found.video_id, found.duration_s, found.author_id, found.tag, strict=True)
    ]


def duration(catalogue: Catalogue, video_id: str) -> float | None:
    """By every way to ask, which must agree."""
    (candidate,) = completed(catalogue, Candidate(video_id=video_id))
    known = catalogue.video(video_id)
    blank = FeedbackEvent(event_id="e", user_id="u", video_id=video_id, timestamp_ms=1, watch_time_s=1.0)
    found = catalogue.complete_event(blank)
    assert (candidate.duration_s, candidate.author_id) == (found.duration_s, found.author_id)
    assert (known.duration_s, known.author_id) == (found.duration_s, found.author_id)
    return candidate.duration_s


async def test_the_store_wins_over_the_file_and_what_is_said_over_both(tmp_path: Path) -> None:
    written(tmp_path / "file", numbered(10))
    catalogue = Catalogue.over(tmp_path / "file")
    assert (len(catalogue), duration(catalogue, "v1")) == (10, 2.0)
    store = MemoryStore()
    await store.put_videos([Video(video_id="v1", duration_s=50.0), Video(video_id="new", duration_s=60.0)])
    await catalogue.follow(store)
    assert len(catalogue) == 11
    assert [duration(catalogue, i) for i in ("v1", "v2", "new", "none")] == [50.0, 3.0, 60.0, None]
    said = Candidate(video_id="v2", duration_s=7.0)
    assert completed(catalogue, said) == [Candidate(video_id="v2", duration_s=7.0, author_id="a2")]


async def test_what_brings_all_its_members_is_not_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "file", numbered(10))
    catalogue = Catalogue.over(tmp_path / "file")
    asked: list[str] = []
    whole = [Candidate(video_id=f"v{i}", duration_s=1.0, author_id="a", tag="t") for i in range(5)]
    find = CatalogueFile.find

    def counted(self: CatalogueFile, ids: Sequence[str]) -> tuple[I64, Known]:
        asked.extend(ids)
        return find(self, ids)

    monkeypatch.setattr(CatalogueFile, "find", counted)
    assert completed(catalogue, *whole) == whole
    completed(catalogue, *whole, Candidate(video_id="v7", tag="t"))
    assert asked == ["v7"]
    completed(catalogue, Candidate(video_id="v7"))
    assert asked == ["v7"], "it is near now"


async def test_what_is_kept_near_is_bounded_and_still_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "file", numbered(100))
    catalogue = Catalogue.over(tmp_path / "file")
    monkeypatch.setattr(module, "NEAR", 30)
    for begin in (0, 10, 20, 30, 5):
        slate = [Candidate(video_id=f"v{i}") for i in range(begin, begin + 20)]
        assert [c.duration_s for c in completed(catalogue, *slate)] == [
            i + 1.0 for i in range(begin, begin + 20)
        ]
        assert len(catalogue._near) <= 30


async def test_a_file_from_the_store_is_followed_from_where_it_was_made(tmp_path: Path) -> None:
    """And a start reads from the store only what came later."""
    with EmbeddedServer(tmp_path) as server:
        async with redis_store(server.url, prefix="rr") as store:
            await store.put_videos(numbered(2500))
            with command("catalogue", "build", "--store", server.url, "--out", str(tmp_path / "file"),
                         data_dir=tmp_path) as process:  # fmt: skip
                printed, errors = process.communicate(timeout=START_S)
            assert process.returncode == 0, errors
            assert "2,500 videos" in printed
            catalogue = Catalogue.over(tmp_path / "file")
            assert CatalogueFile.open(tmp_path / "file").count([v.video_id for v in numbered(2500)]) == 2500
            await store.put_videos([Video(video_id="v3", duration_s=70.0)])
            await catalogue.follow(store)
            assert list(catalogue._videos) == ["v3"]
            assert [duration(catalogue, i) for i in ("v3", "v4")] == [70.0, 5.0]


async def test_another_file_is_taken_over_and_the_store_still_wins(tmp_path: Path) -> None:
    path, store = tmp_path / "file", MemoryStore()
    written(path, numbered(10))
    catalogue = Catalogue.over(path)
    await store.put_videos([Video(video_id="v1", duration_s=50.0)])
    await catalogue.follow(store)
    assert duration(catalogue, "v2") == 3.0
    written(path, [Video(video_id=f"v{i}", duration_s=8.0) for i in (1, 2, 11)])
    await catalogue.look()
    assert duration(catalogue, "v2") == 3.0, "not before the store was asked what it knows better"
    await catalogue.follow(store)
    assert [duration(catalogue, i) for i in ("v1", "v2", "v3")] == [50.0, 8.0, None]
    assert len(catalogue) == 3


async def test_a_damaged_file_leaves_the_one_before_it_and_is_named_once(tmp_path: Path) -> None:
    path, store = tmp_path / "file", MemoryStore()
    written(path, numbered(10))
    catalogue = Catalogue.over(path)
    draft = tmp_path / "draft"
    draft.write_bytes(path.read_bytes()[:-1])
    draft.replace(path)
    with pytest.raises(BadInput, match="is damaged"):
        await catalogue.look()
    await catalogue.look()
    path.unlink()
    with pytest.raises(BadInput, match="is gone"):
        await catalogue.look()
    await catalogue.look()
    await catalogue.follow(store)
    assert duration(catalogue, "v2") == 3.0
    written(path, [Video(video_id="v2", duration_s=8.0)])
    await catalogue.look()
    await catalogue.follow(store)
    assert duration(catalogue, "v2") == 8.0


def videos_of(client: httpx2.Client) -> float:
    found = re.search(r"^reelrank_catalogue_videos (\S+)", client.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_a_running_service_answers_from_file_and_store(bundles: Path, tmp_path: Path) -> None:
    path, label = tmp_path / "file", event("e1", video_id="v23", duration_s=None)
    written(path, numbered(50))
    with served(bundles, MemoryStore(), tmp_path, catalogue=path) as client:

        def labelled() -> float:
            return float(client.post("/label?store=false", json=label).json()["labels"][0]["label"])

        assert videos_of(client) == 50
        assert labelled() == 0.5  # 12 of the file's 24 s
        slate = {"user_id": "u", "candidates": [{"video_id": "v23"}, {"video_id": "v2", "tag": "t"}]}
        spelled = {
            "user_id": "u",
            "candidates": [
                {"video_id": "v23", "duration_s": 24.0, "author_id": "a2"},
                {"video_id": "v2", "duration_s": 3.0, "author_id": "a2", "tag": "t"},
            ],
        }
        answers = [client.post("/rerank", json=body).json()["items"] for body in (slate, spelled)]
        assert answers[0] == answers[1]
        client.put("/videos", json=[{"video_id": "v23", "duration_s": 48.0}]).raise_for_status()
        assert labelled() == 0.25
        assert videos_of(client) == 50
        written(path, [*numbered(80)])
        assert eventually(lambda: videos_of(client) == 80)
        assert labelled() == 0.25, "the store's word"


def test_a_start_with_a_file_that_is_none_ends_with_one_line(bundles: Path, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("videos")
    with command("serve", "--port", "0", "--bundle", str(bundles), data_dir=tmp_path,
                 REELRANK_CATALOGUE=str(path)) as process:  # fmt: skip
        _, said = process.communicate(timeout=START_S)
    assert process.returncode == 2
    assert f"reelrank: {path} is no catalogue" in said
    assert "Traceback" not in said


def mapping(pid: int, path: Path) -> dict[str, int]:
    """Figures of the file's mapping in a process, in kB, and the file's number; empty if there is none."""
    found: dict[str, int] = {}
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if head := re.match(r"[0-9a-f]+-[0-9a-f]+ (\S+) \S+ \S+ (\d+)\s*(.*)", line):
            inside = head[3] == str(path)
            if inside:
                assert head[1] == "r--s", "shared, and not to be written to"
                found["inode"] = int(head[2])
        elif inside and (figure := re.match(r"(\w+):\s+(\d+) kB", line)):
            found[figure[1]] = found.get(figure[1], 0) + int(figure[2])
    return found


def test_two_workers_map_one_copy(bundles: Path, tmp_path: Path) -> None:
    path = tmp_path / "file"
    written(path, numbered(20_000))
    with running(bundles, tmp_path, "--workers", "2", REELRANK_CATALOGUE=str(path)) as service:
        pid = service.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        maps = [found for child in children if (found := mapping(int(child), path))]
    assert len(maps) == 2
    assert {found["inode"] for found in maps} == {path.stat().st_ino}
    for found in maps:
        assert found["Rss"] * 1024 >= path.stat().st_size * 0.9, "all of it was read"
        assert found["Private_Dirty"] == 0, "nothing of it is a copy of the worker's own"
        assert found["Pss"] < found["Rss"], "the pages are counted for both"


@pytest.mark.parametrize(
    ("arguments", "line", "said"),
    [
        (["--source", "-"], b'{"video_id": "a"}\n{"video_id": 1.5}\n', "Line 2 of standard input"),
        (["--source", "-"], b"\xff\n", "Line 1 of standard input"),
        (["--source", "/nowhere/videos.ndjson"], b"", "No such file"),
        ([], b"", "Where are the videos"),
        (["--source", "-", "--store", "redis://127.0.0.1"], b"", "not both"),
        (["--store", "redis://127.0.0.1:1"], b"", "127.0.0.1:1"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_one_line_and_leaves_no_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    line: bytes,
    said: str,
) -> None:
    class Standard:
        buffer = iter(line.splitlines(keepends=True))

    monkeypatch.setattr("sys.stdin", Standard)
    with pytest.raises(ReelrankError, match=said):
        app(["catalogue", "build", "--out", str(tmp_path / "file"), *arguments], standalone_mode=False)
    assert list(tmp_path.iterdir()) == []
