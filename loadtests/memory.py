"""`python -m loadtests.memory`: what users, events and videos cost in memory and work, as JSON.

Loopback only. Full size takes some minutes, 4 GB of memory and 1 GB of disk. Some users go through the
service's own store, which shows the cost of one more event. A million would take hours, so they are written
in bulk as the store would leave them: the same keys, the same bytes (checked), the same time to live.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import typer
from redis import Redis

from loadtests.command import (
    BundleOption,
    JsonOption,
    LoadtestError,
    log_progress,
    make_app,
    print_report,
    run,
)
from loadtests.environment import Service, version_folder
from loadtests.host import cpu_ms, rss_mib
from models.features import Candidates
from models.schema import FeedbackEvent, Video
from service.catalogue.catalogue import Catalogue
from service.catalogue.file import CatalogueWriter
from service.server.worker import GC_THRESHOLD
from service.state import EmbeddedServer, RedisStore
from service.state.codec import encode_sequence
from service.state.keys import SEQUENCE_TTL_S, Keys, user_digest

SEED: Final = 21
NOW_MS: Final = 1_651_330_969_569
LENGTHS: Final = (50, 100)
"""Exposures of a user: half of what is kept by default, and all of it."""
STORE_BYTES: Final = 4_400_000_000
COMMAND_TIMEOUT_S: Final = 120.0
"""Emptying gigabytes takes the server a while."""
BULK: Final = 500
STORE_USERS: Final = 20
"""Users that go through the store, each with so many events one by one:"""
SINGLE_EVENTS: Final = 50
CLAIMS_PER_USER: Final = 2
REMEMBERED: Final = 100_000
"""Events that the busiest user has had within the window."""
BODIES: Final = 20
"""Of `BULK` events each, for that user and for as many new ones."""
CLAIM_TTL_MS: Final = 86_400_000
AUTHORS: Final = 1_000_003
TAGS: Final = 400
SLATE: Final = 500
CALLS: Final = 400
OBJECTS: Final = 200_000
"""Entries of the dict that the catalogue's file is compared with."""

Figures = dict[str, Any]
T = TypeVar("T")


def main(
    bundle: BundleOption = None,
    videos: Annotated[int, typer.Option(min=1000, help="Of the catalogue.")] = 10_000_000,
    users: Annotated[int, typer.Option(min=100, help="Of the store.")] = 1_000_000,
    json_file: JsonOption = None,
    smoke: Annotated[bool, typer.Option(help="Small: checks that it runs, measures nothing.")] = False,
) -> None:
    """Measure the store and the catalogue, and print JSON."""
    if smoke:
        videos, users = min(videos, 20_000), min(users, 2000)
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        version = version_folder(bundle)
        figures = {
            "store": asyncio.run(measure_store(Path(folder), users)),
            "catalogue": measure_catalogue(version, Path(folder), videos, (1, 2) if smoke else (1, 2, 4)),
        }
        command = "python -m loadtests.memory" + " --smoke" * smoke
        print_report(command, {"bundle": version.name, "figures": figures}, json_file)


# --- the store


async def measure_store(folder: Path, users: int) -> Figures:
    """Start a store, fill it, and read its own figures."""
    with (
        EmbeddedServer(folder / "store", max_memory=STORE_BYTES) as server,
        Redis.from_url(server.url, socket_timeout=COMMAND_TIMEOUT_S) as client,
    ):
        figures = await _single_events(server, client)
        busy = await _busy_user(server, client, min(REMEMBERED, 10 * users))
        client.config_set("appendonly", "no")  # the bulk is about memory; its file would be gigabytes
        figures["busy_user"] = busy
        figures["users"] = users
        figures["sequences"] = [_sequences(client, server.pid, users, length) for length in LENGTHS]
        figures["claims"] = _claims(client, users * CLAIMS_PER_USER)
        return figures


async def _single_events(server: EmbeddedServer, client: Redis) -> Figures:
    """Measure one more event, and one read, of users with full sequences."""
    store, keys, length = RedisStore.open(server.url, timeout_s=10, read_timeout_s=10), Keys(), LENGTHS[-1]
    events = {user: _events(user, length + SINGLE_EVENTS) for user in map(_user, range(STORE_USERS))}
    count = STORE_USERS * SINGLE_EVENTS
    try:
        for user, sequence in events.items():
            await store.record(user, sequence[:length])
            if client.get(keys.sequence(user)) != encode_sequence(sequence[:length]):
                raise LoadtestError("the store keeps other bytes than the bulk would write")
        file_bytes, cpu = _file_bytes(client), cpu_ms(server.pid)
        for i in range(length, length + SINGLE_EVENTS):
            for user, sequence in events.items():
                await store.record(user, sequence[i : i + 1])
        write_ms, appended = cpu_ms(server.pid) - cpu, _file_bytes(client) - file_bytes
        cpu = cpu_ms(server.pid)
        for _ in range(SINGLE_EVENTS):
            for user in events:
                await store.read(user)
        read_ms = cpu_ms(server.pid) - cpu
        left = [keys.user(user)[1] for user in events]
        left_bytes = sum(int(client.memory_usage(key, samples=0) or 0) for key in left)
        return {
            "write_1_event_server_cpu_ms": round(write_ms / count, 4),
            "write_1_event_aof_bytes": round(appended / count),
            "read_server_cpu_ms": round(read_ms / count, 4),
            "left_the_sequence_bytes_an_event": round(left_bytes / sum(map(client.hlen, left)), 1),
        }
    finally:
        await store.close()


async def _busy_user(server: EmbeddedServer, client: Redis, remembered: int) -> Figures:
    """Measure bodies and single events of a user of whom so many are remembered, and of new users."""
    store = RedisStore.open(server.url, timeout_s=10, read_timeout_s=10)
    figures: Figures = {"remembered": remembered}
    busy = _events("busy", remembered + (BODIES + 1) * BULK)
    new = [_events(f"new{i}", BULK) for i in range(BODIES)]
    try:
        await store.record_many(busy[:remembered])
        last = remembered + BODIES * BULK
        bodies = {
            "new_users": new,
            "busy_user": [busy[at : at + BULK] for at in range(remembered, last, BULK)],
        }
        took_ms: dict[str, list[float]] = {name: [] for name in bodies}
        for pair in zip(*bodies.values(), strict=True):  # in turns
            for name, body in zip(bodies, pair, strict=True):
                cpu = _main_thread_ms(client)
                await store.record_many(body)
                took_ms[name].append(_main_thread_ms(client) - cpu)
        for name, times in took_ms.items():
            figures[f"body_of_{BULK}_server_cpu_ms_{name}"] = round(statistics.median(times), 3)
        file_bytes = _file_bytes(client)
        for event in busy[last:]:
            await store.record_many([event])
        figures["write_1_event_aof_bytes"] = round((_file_bytes(client) - file_bytes) / BULK)
        return figures
    finally:
        await store.close()


def _sequences(client: Redis, pid: int | None, users: int, length: int) -> Figures:
    """Measure users with so many exposures each."""
    pool, keys = [encode_sequence(_events(_user(u), length)) for u in range(BULK)], Keys()
    before = _empty(client)
    for part in _parts(users):
        pipeline = client.pipeline(transaction=False)
        for u in part:
            pipeline.set(keys.sequence(_user(u)), pool[u % BULK], px=round(SEQUENCE_TTL_S * 1000))
        pipeline.execute()
        _log(f"users with {length} events", part.stop, users)
    used = _used_bytes(client) - before
    if client.dbsize() != users:
        raise LoadtestError(f"{users} users were written, {client.dbsize()} are stored")
    return {
        "events": length,
        "packed_bytes": round(sum(map(len, pool)) / len(pool)),
        "bytes_a_user": round(used / users),
        "users_a_gib": int(2**30 / (used / users)),
        "used_mib": round(used / 2**20, 1),
        "resident_mib": rss_mib(pid),
    }


def _claims(client: Redis, count: int) -> Figures:
    """Measure known event ids: a key of 8 bytes of digest with 4 of the user's each."""
    keys, rng, owner = Keys(), random.Random(SEED), user_digest("alice")
    before = _empty(client)
    for part in _parts(count):
        pipeline = client.pipeline(transaction=False)
        for _ in part:
            pipeline.set(keys.claim(rng.randbytes(8)), owner, px=CLAIM_TTL_MS)
        pipeline.execute()
        _log("claims", part.stop, count)
    return {"claims": count, "bytes_an_event": round((_used_bytes(client) - before) / count, 1)}


def _user(number: int) -> str:
    return f"u{number:09d}"


def _events(user: str, count: int) -> list[FeedbackEvent]:
    """Return events with ids as platforms have them: numbers of 8 bytes' worth, as text."""
    rng = random.Random(user)
    return [
        FeedbackEvent(
            event_id=str(rng.randrange(10**14, 10**15)),
            user_id=user,
            video_id=str(rng.randrange(10**9, 10**10)),
            timestamp_ms=NOW_MS + i * 60_000,
            watch_time_s=round(rng.uniform(0, 60), 1),
            duration_s=round(rng.uniform(5, 120), 1),
            like=rng.random() < 0.1,
        )
        for i in range(count)
    ]


def _parts(count: int) -> Iterator[range]:
    return (range(start, min(start + BULK, count)) for start in range(0, count, BULK))


def _empty(client: Redis) -> int:
    """Empty the store, memory given back on return; return the bytes in use."""
    client.execute_command("FLUSHALL SYNC")  # type: ignore[no-untyped-call]
    return _used_bytes(client)


def _used_bytes(client: Redis) -> int:
    return int(client.info("memory")["used_memory"])


def _main_thread_ms(client: Redis) -> float:
    """Return the processor time of the thread that answers, finer than `cpu_ms`."""
    info = client.info("cpu")
    return float(info["used_cpu_user_main_thread"] + info["used_cpu_sys_main_thread"]) * 1000


def _file_bytes(client: Redis) -> int:
    return int(client.info("persistence")["aof_current_size"])


def _log(items: str, count: int, total: int) -> None:
    if count == total or count % 100_000 == 0:
        log_progress("memory", f"{items}: {count:,} of {total:,}")


# --- the catalogue


def measure_catalogue(version: Path, folder: Path, videos: int, workers: Sequence[int]) -> Figures:
    """Make a catalogue file and serve over it with 0 (no file), then so many workers."""
    path = folder / "catalogue"
    start_s = time.perf_counter()
    write_catalogue(path, videos)
    size = path.stat().st_size
    return {
        "videos": videos,
        "build_s": round(time.perf_counter() - start_s, 1),
        "file_mib": round(size / 2**20, 1),
        "bytes_a_video": round(size / videos, 1),
        "objects_bytes_a_video": _in_a_process(_bytes_per_object, min(videos, OBJECTS)),
        **_in_a_process(time_lookups, path, videos),
        "workers": [_serve(version, folder / f"data-{n}", path, n) for n in (0, *workers)],
    }


def write_catalogue(path: Path, videos: int) -> None:
    """Write a catalogue file of synthetic videos."""
    with CatalogueWriter(path) as writer:
        writer.add(_videos(videos))
        writer.finish()


def _in_a_process(call: Callable[..., T], *args: Any) -> T:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(call, *args).result()


def _id(number: int) -> str:
    return str(1_000_000_007 + number * 7)


def _videos(count: int) -> Iterator[Video]:
    for n in range(count):
        author, tag = str(n % AUTHORS), str(n % TAGS)
        yield Video(video_id=_id(n), duration_s=5 + n % 1150 / 10, author_id=author, tag=tag)
        if (n + 1) % 1_000_000 == 0:
            _log("videos", n + 1, count)


def _bytes_per_object(count: int) -> float:
    """Return the bytes of a dict entry, which is what a worker holds without a file."""
    before = rss_mib(os.getpid()) or 0.0
    entries = {video.video_id: video for video in _videos(count)}
    return round(((rss_mib(os.getpid()) or 0.0) - before) * 2**20 / len(entries), 1)


def time_lookups(path: Path, videos: int) -> Figures:
    """Time opening a catalogue file and looking up the videos of slates and of events in it."""
    gc.set_threshold(*GC_THRESHOLD)  # as in the service's workers
    start_s = time.perf_counter()
    catalogue = Catalogue.from_file(path)
    open_s = round(time.perf_counter() - start_s, 3)
    file, rng = catalogue._file, random.Random(SEED)
    assert file is not None
    slates = [[_id(rng.randrange(videos)) for _ in range(SLATE)] for _ in range(CALLS)]
    nothing, authors = [None] * SLATE, ["a"] * SLATE
    bare = [Candidates(slate, nothing, nothing, nothing) for slate in slates]
    complete = [Candidates(slate, [9.0] * SLATE, authors, authors) for slate in slates]
    in_memory = Catalogue()
    events = [video_id for slate in slates[:20] for video_id in slate]
    in_memory._videos = {i: Video(video_id=i, duration_s=9.0, author_id="a", tag="t") for i in events}
    return {
        "open_s": open_s,
        "lookup_500_us": {
            "lookup_any": _time_us(lambda i: file.lookup(slates[i])),
            "objects_any": _time_us(lambda i: catalogue.complete(bare[i])),
            "objects_near": _time_us(lambda i: catalogue.complete(bare[i % 20])),
            "nothing_lacks": _time_us(lambda i: catalogue.complete(complete[i])),
            "a_dict_of_objects": _time_us(lambda i: in_memory.complete(bare[i % 20])),
        },
        "lookup_1_us": _time_us(lambda i: file.get(events[i * 17 % len(events)])),
    }


def _time_us(call: Callable[[int], object]) -> dict[str, float]:
    """Return the median, and the 10th percentile, which a busy host lengthens less."""
    took_us = []
    for i in range(CALLS):
        start_s = time.perf_counter()
        call(i)
        took_us.append((time.perf_counter() - start_s) * 1e6)
    took_us.sort()
    return {"p10": round(took_us[CALLS // 10], 1), "p50": round(took_us[CALLS // 2], 1)}


def _serve(version: Path, data_dir: Path, path: Path, workers: int) -> Figures:
    env = {"REELRANK_CATALOGUE": str(path)} if workers else {}
    start_s = time.perf_counter()
    with Service(version, data_dir, "--workers", str(max(1, workers)), env=env) as service:
        ready_s = time.perf_counter() - start_s
        pids = service.workers() if workers > 1 else [service.pid]
        if len(pids) != max(1, workers):
            raise LoadtestError(f"{workers} workers were started, {len(pids)} run")
        memory = [process_memory_mib(pid, path) for pid in pids]
    means = {f"{name}_mib": round(sum(m[name] for m in memory) / len(memory), 1) for name in memory[0]}
    return {"workers": workers, "ready_s": round(ready_s, 2), **means}


def process_memory_mib(pid: int, path: Path) -> dict[str, float]:
    """Return rss (touched), pss (shared pages by share) and own (private) of a process, and of a file."""
    process = _sum_mib(Path(f"/proc/{pid}/smaps_rollup").read_text())
    maps = Path(f"/proc/{pid}/smaps").read_text()
    pattern = rf"^[0-9a-f]+-.* {re.escape(str(path))}\n(?:\w+:.*\n)*"
    file = _sum_mib("".join(re.findall(pattern, maps, re.MULTILINE)))
    return {
        "rss": process["Rss"],
        "pss": process["Pss"],
        "own": process["Private_Clean"] + process["Private_Dirty"],
        "file_rss": file.get("Rss", 0.0),
        "file_pss": file.get("Pss", 0.0),
    }


def _sum_mib(smaps: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for name, kb in re.findall(r"^(\w+):\s+(\d+) kB", smaps, re.MULTILINE):
        sums[name] = sums.get(name, 0.0) + int(kb) / 1024
    return sums


app = make_app("memory", main)

if __name__ == "__main__":
    run(app)
