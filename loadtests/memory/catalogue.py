"""What a catalogue of many videos costs: to make, to open, to look up in, and in the memory of workers."""

from __future__ import annotations

import gc
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, TypeVar

from loadtests.machine import children, rss_mib
from loadtests.program import Program
from models.features import Candidates
from models.schema import Video
from service.catalogue.catalogue import Catalogue
from service.catalogue.file import CatalogueWriter
from service.server.worker import GC_THRESHOLD

SEED: Final = 22
AUTHORS: Final = 1_000_003
TAGS: Final = 400
SLATE: Final = 500
CALLS: Final = 400
OBJECTS: Final = 200_000
"""Entries of the dict that the file is compared with."""

Figures = dict[str, Any]
T = TypeVar("T")


def measured(version: Path, folder: Path, videos: int, *, workers: Sequence[int]) -> Figures:
    """Make a file of so many videos and serve over it.

    Raises:
        ProgramFailed: the service does not start over it.
    """
    path = folder / "catalogue"
    began = time.perf_counter()
    with CatalogueWriter(path) as writer:
        writer.add(_videos(videos))
        writer.finish()
    size = path.stat().st_size
    figures: Figures = {
        "videos": videos,
        "build_s": round(time.perf_counter() - began, 1),
        "file_mib": round(size / 2**20, 1),
        "bytes_a_video": round(size / videos, 1),
        "objects_bytes_a_video": _apart(_objects, min(videos, OBJECTS)),
    }
    figures |= _apart(_lookups, path, videos)
    figures["workers"] = [_serving(version, folder / f"data-{n}", path, n) for n in (0, *workers)]
    return figures


def _apart(call: Callable[..., T], *args: Any) -> T:
    """In a process of its own, which holds nothing else."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *args).result()


def _id(number: int) -> str:
    return str(1_000_000_007 + number * 7)


def _videos(count: int) -> Iterator[Video]:
    for n in range(count):
        yield Video(
            video_id=_id(n), duration_s=5 + n % 1150 / 10, author_id=str(n % AUTHORS), tag=str(n % TAGS)
        )
        if (n + 1) % 1_000_000 == 0:
            print(f"memory: videos: {n + 1:,} of {count:,}", file=sys.stderr, flush=True)


def _objects(count: int) -> float:
    """Bytes of an entry of a dict: what a worker holds of the store's catalogue without a file."""
    before = rss_mib(os.getpid()) or 0.0
    held = {video.video_id: video for video in _videos(count)}
    return round(((rss_mib(os.getpid()) or 0.0) - before) * 2**20 / len(held), 1)


def _lookups(path: Path, videos: int) -> Figures:
    gc.set_threshold(*GC_THRESHOLD)  # as the service's workers have it
    rng = random.Random(SEED)
    slates = [[_id(rng.randrange(videos)) for _ in range(SLATE)] for _ in range(CALLS)]
    no, some = [None] * SLATE, ["a"] * SLATE
    bare = [Candidates(slate, no, no, no) for slate in slates]
    whole = [Candidates(slate, [9.0] * SLATE, some, some) for slate in slates]
    known = Catalogue()
    known._videos = {
        i: Video(video_id=i, duration_s=9.0, author_id="a", tag="t") for slate in slates[:20] for i in slate
    }
    events = [video_id for slate in slates[:20] for video_id in slate]
    began = time.perf_counter()
    catalogue = Catalogue.from_file(path)
    figures: Figures = {"open_s": round(time.perf_counter() - began, 3)}
    file = catalogue._file
    assert file is not None
    figures["lookup_500_us"] = {
        "lookup_any": _timed(lambda i: file.lookup(slates[i])),
        "objects_any": _timed(lambda i: catalogue.complete(bare[i])),
        "objects_near": _timed(lambda i: catalogue.complete(bare[i % 20])),
        "nothing_lacks": _timed(lambda i: catalogue.complete(whole[i])),
        "a_dict_of_objects": _timed(lambda i: known.complete(bare[i % 20])),
    }
    figures["lookup_1_us"] = _timed(lambda i: file.get(events[i * 17 % len(events)]))
    return figures


def _timed(call: Callable[[int], object]) -> dict[str, float]:
    """Microseconds: the median, and what a tenth stays under, which a busy machine lengthens less."""
    took = []
    for i in range(CALLS):
        before = time.perf_counter()
        call(i)
        took.append((time.perf_counter() - before) * 1e6)
    took.sort()
    return {"p10": round(took[CALLS // 10], 1), "p50": round(took[CALLS // 2], 1)}


def _serving(version: Path, data_dir: Path, path: Path, workers: int) -> Figures:
    """The service with so many workers over the file; 0: one worker without it."""
    env = {"REELRANK_CATALOGUE": str(path)} if workers else {}
    began = time.perf_counter()
    with Program(version, data_dir, "--workers", str(max(1, workers)), env=env) as program:
        ready_s = time.perf_counter() - began
        pids = [program.pid]
        if workers > 1:
            pids = [pid for pid, line in children(program.pid).items() if "spawn_main" in line]
        if len(pids) != max(1, workers):
            raise AssertionError(f"{workers} workers were started, {len(pids)} were found")
        memory = [_memory(pid, path) for pid in pids]
    return {
        "workers": workers,
        "ready_s": round(ready_s, 2),
        **{f"{name}_mib": round(sum(m[name] for m in memory) / len(memory), 1) for name in memory[0]},
    }


def _memory(pid: int, path: Path) -> dict[str, float]:
    """MiB of a process: all it has touched (rss), its share of that (pss), what is its own alone, and
    the same of the file."""
    rollup = _figures(Path(f"/proc/{pid}/smaps_rollup").read_text())
    file = "".join(
        re.findall(rf"^[0-9a-f]+-.* {re.escape(str(path))}\n(?:\w+:.*\n)*", _maps(pid), re.MULTILINE)
    )
    own = rollup["Private_Clean"] + rollup["Private_Dirty"]
    shared = _figures(file)
    return {
        "rss": rollup["Rss"],
        "pss": rollup["Pss"],
        "own": own,
        "file_rss": shared.get("Rss", 0.0),
        "file_pss": shared.get("Pss", 0.0),
    }


def _maps(pid: int) -> str:
    return Path(f"/proc/{pid}/smaps").read_text()


def _figures(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, kb in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE):
        found[name] = found.get(name, 0.0) + int(kb) / 1024
    return found
