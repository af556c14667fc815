"""A catalogue over a file: the store's videos replace the file's, and all workers share one copy of it."""

from __future__ import annotations

import errno
import mmap
import os
import re
from collections.abc import Iterable
from pathlib import Path

import httpx2
import pytest

from models.errors import BadInput, ReelrankError
from models.features import Candidates
from models.schema import Candidate, FeedbackEvent, Video
from service.__main__ import app
from service.catalogue import catalogue as module
from service.catalogue.catalogue import Catalogue
from service.catalogue.file import CatalogueFile, VideoFacts
from service.state import EmbeddedServer
from tests.service.catalogues import numbered, write
from tests.service.memory_store import MemoryStore
from tests.service.running import START_S, command, event, eventually, running, served
from tests.service.stores import redis_store

pytestmark = pytest.mark.anyio


def completed(catalogue: Catalogue, *rows: Candidate) -> list[Candidate]:
    found = catalogue.complete(Candidates.from_rows(rows))
    return [
        Candidate(video_id=v, duration_s=d, author_id=a, tag=t)
        for v, d, a, t in zip(found.video_id, found.duration_s, found.author_id, found.tag, strict=True)
    ]


def duration(catalogue: Catalogue, video_id: str) -> float | None:
    """Of one video, by each of the three functions, which must agree."""
    (candidate,) = completed(catalogue, Candidate(video_id=video_id))
    known = catalogue.video(video_id)
    blank = FeedbackEvent(event_id="e", user_id="u", video_id=video_id, timestamp_ms=1, watch_time_s=1.0)
    found = catalogue.complete_event(blank)
    assert (candidate.duration_s, candidate.author_id) == (found.duration_s, found.author_id)
    assert (known.duration_s, known.author_id) == (found.duration_s, found.author_id)
    return candidate.duration_s


async def test_the_store_wins_over_the_file_and_a_request_over_both(tmp_path: Path) -> None:
    write(tmp_path / "file", numbered(10))
    catalogue = Catalogue.from_file(tmp_path / "file")
    assert (len(catalogue), duration(catalogue, "v1")) == (10, 2.0)
    store = MemoryStore()
    await store.put_videos([Video(video_id="v1", duration_s=50.0), Video(video_id="new", duration_s=60.0)])
    await catalogue.follow(store)
    assert len(catalogue) == 11
    assert [duration(catalogue, i) for i in ("v1", "v2", "new", "none")] == [50.0, 3.0, 60.0, None]
    own = Candidate(video_id="v2", duration_s=7.0)
    assert completed(catalogue, own) == [Candidate(video_id="v2", duration_s=7.0, author_id="a2")]


async def test_a_candidate_with_all_its_fields_is_not_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "file", numbered(10))
    catalogue = Catalogue.from_file(tmp_path / "file")
    looked_up: list[str] = []
    complete = [Candidate(video_id=f"v{i}", duration_s=1.0, author_id="a", tag="t") for i in range(5)]
    lookup = CatalogueFile.lookup

    def counted(self: CatalogueFile, ids: Iterable[str]) -> dict[str, VideoFacts]:
        looked_up.extend(ids := list(ids))
        return lookup(self, ids)

    monkeypatch.setattr(CatalogueFile, "lookup", counted)
    assert completed(catalogue, *complete) == complete
    completed(catalogue, *complete, Candidate(video_id="v7", tag="t"))
    assert looked_up == ["v7"]
    completed(catalogue, Candidate(video_id="v7"))
    assert looked_up == ["v7"], "it is cached now"


async def test_the_cache_is_bounded_and_stays_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "file", numbered(100))
    catalogue = Catalogue.from_file(tmp_path / "file")
    monkeypatch.setattr(module, "CACHED", 30)
    for begin in (0, 10, 20, 30, 5):
        slate = [Candidate(video_id=f"v{i}") for i in range(begin, begin + 20)]
        assert [c.duration_s for c in completed(catalogue, *slate)] == [
            i + 1.0 for i in range(begin, begin + 20)
        ]
        assert len(catalogue._cache) <= 30


@pytest.mark.slow
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
            catalogue = Catalogue.from_file(tmp_path / "file")
            assert len(catalogue) == 2500
            await store.put_videos([Video(video_id="v3", duration_s=70.0)])
            await catalogue.follow(store)
            assert list(catalogue._videos) == ["v3"]
            assert [duration(catalogue, i) for i in ("v3", "v4")] == [70.0, 5.0]


async def test_another_file_is_taken_over_and_the_store_still_wins(tmp_path: Path) -> None:
    path, store = tmp_path / "file", MemoryStore()
    write(path, numbered(10))
    catalogue = Catalogue.from_file(path)
    await store.put_videos([Video(video_id="v1", duration_s=50.0)])
    await catalogue.follow(store)
    assert duration(catalogue, "v2") == 3.0
    write(path, [Video(video_id=f"v{i}", duration_s=8.0) for i in (1, 2, 11)])
    await catalogue.check_file()
    assert duration(catalogue, "v2") == 3.0, "not before the store's newer videos are there"
    await catalogue.follow(store)
    assert [duration(catalogue, i) for i in ("v1", "v2", "v3")] == [50.0, 8.0, None]
    assert len(catalogue) == 3


async def test_a_damaged_file_leaves_the_one_before_it_and_is_named_once(tmp_path: Path) -> None:
    path, store = tmp_path / "file", MemoryStore()
    write(path, numbered(10))
    catalogue = Catalogue.from_file(path)
    draft = tmp_path / "draft"
    draft.write_bytes(path.read_bytes()[:-1])
    draft.replace(path)
    with pytest.raises(BadInput, match="is damaged"):
        await catalogue.check_file()
    await catalogue.check_file()
    path.unlink()
    with pytest.raises(BadInput, match="is gone"):
        await catalogue.check_file()
    await catalogue.check_file()
    await catalogue.follow(store)
    assert duration(catalogue, "v2") == 3.0
    write(path, [Video(video_id="v2", duration_s=8.0)])
    await catalogue.check_file()
    await catalogue.follow(store)
    assert duration(catalogue, "v2") == 8.0


async def test_a_file_that_cannot_be_read_for_now_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = tmp_path / "file", MemoryStore()
    write(path, numbered(10))
    catalogue = Catalogue.from_file(path)
    write(path, [Video(video_id="v2", duration_s=8.0)])
    with monkeypatch.context() as patched:
        patched.setattr(mmap, "mmap", no_descriptor)
        with pytest.raises(BadInput, match="Too many open files"):
            await catalogue.check_file()
        await catalogue.check_file()  # named once
    await catalogue.check_file()
    await catalogue.follow(store)
    assert duration(catalogue, "v2") == 8.0


def no_descriptor(*_: object, **__: object) -> None:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def catalogue_videos(client: httpx2.Client) -> float:
    found = re.search(r"^reelrank_catalogue_videos (\S+)", client.get("/metrics").text, re.MULTILINE)
    assert found is not None
    return float(found[1])


def test_a_running_service_answers_from_file_and_store(bundles: Path, tmp_path: Path) -> None:
    path, label = tmp_path / "file", event("e1", video_id="v23", duration_s=None)
    write(path, numbered(50))
    with served(bundles, MemoryStore(), tmp_path, catalogue=path) as client:

        def labelled() -> float:
            return float(client.post("/label?store=false", json=label).json()["labels"][0]["label"])

        assert catalogue_videos(client) == 50
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
        assert catalogue_videos(client) == 50
        write(path, [*numbered(80)])
        assert eventually(lambda: catalogue_videos(client) == 80)
        assert labelled() == 0.25, "the store wins"


@pytest.mark.slow
def test_a_start_with_another_file_ends_with_one_line(bundles: Path, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("videos")
    with command("serve", "--port", "0", "--bundle", str(bundles), data_dir=tmp_path,
                 REELRANK_CATALOGUE=str(path)) as process:  # fmt: skip
        _, errors = process.communicate(timeout=START_S)
    assert process.returncode == 2
    assert f"reelrank: {path} is no catalogue" in errors
    assert "Traceback" not in errors


def mapping(pid: int, path: Path) -> dict[str, int]:
    """Figures of the file's mapping in a process, in kB, and the file's number; empty if there is none."""
    figures: dict[str, int] = {}
    inside = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if head := re.match(r"[0-9a-f]+-[0-9a-f]+ (\S+) \S+ \S+ (\d+)\s*(.*)", line):
            inside = head[3] == str(path)
            if inside:
                assert head[1] == "r--s", "shared, and not to be written to"
                figures["inode"] = int(head[2])
        elif inside and (figure := re.match(r"(\w+):\s+(\d+) kB", line)):
            figures[figure[1]] = figures.get(figure[1], 0) + int(figure[2])
    return figures


@pytest.mark.slow
def test_two_workers_map_one_copy(bundles: Path, tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, numbered(20_000))
    with running(bundles, tmp_path, "--workers", "2", REELRANK_CATALOGUE=str(path)) as service:
        pid = service.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        maps = [found for child in children if (found := mapping(int(child), path))]
    assert len(maps) == 2
    assert {found["inode"] for found in maps} == {path.stat().st_ino}
    for found in maps:
        assert found["Private_Dirty"] == 0, "nothing of it is a copy of the worker's own"
        assert found["Pss"] < found["Rss"], "the pages are counted for both"


@pytest.mark.parametrize(
    ("arguments", "lines", "reason"),
    [
        (["--source", "-"], b'{"video_id": "a"}\n{"video_id": 1.5}\n', "Line 2 of standard input"),
        (["--source", "-"], b"\xff\n", "Line 1 of standard input"),
        (["--source", "/nowhere/videos.ndjson"], b"", "No such file"),
        ([], b"", "No source of videos"),
        (["--source", "-", "--store", "redis://127.0.0.1"], b"", "not both"),
        (["--store", "redis://127.0.0.1:1"], b"", "127.0.0.1:1"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_one_line_and_leaves_no_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    lines: bytes,
    reason: str,
) -> None:
    class Standard:
        buffer = iter(lines.splitlines(keepends=True))

    monkeypatch.setattr("sys.stdin", Standard)
    with pytest.raises(ReelrankError, match=reason):
        app(["catalogue", "build", "--out", str(tmp_path / "file"), *arguments], standalone_mode=False)
    assert list(tmp_path.iterdir()) == []
